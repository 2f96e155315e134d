"""Send to MLflow what it has not got yet.

python -m tinyllm.sync                 send what is left, of all journals
python -m tinyllm.sync rebuild         make the run of a model that DVC brought here, if MLflow has
                                       none, from the reports and settings
python -m tinyllm.sync ui              look at the runs in MLflow (`make ui` starts it)
python -m tinyllm.sync follow JOURNAL  send one journal while it grows (the stages start it)
"""

import argparse
import math
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tinyllm.common import console
from tinyllm.common.files import project_root
from tinyllm.sync.outbox import OTHER_SENDER, Delivery, pending, sync
from tinyllm.tracking.places import locked

INTERVAL = 5.0  # seconds between batches


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("rebuild")
    commands.add_parser("follow").add_argument("journal", type=Path)
    pages = commands.add_parser("ui", help="further arguments are for `mlflow ui`")
    pages.add_argument("--host", default="127.0.0.1")
    pages.add_argument("--port", default="5000")
    pages.add_argument("--allowed-hosts", default="", help="names in a browser's address")
    args, further = parser.parse_known_args()
    if further and args.command != "ui":
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    set_up_mlflow(project_root())
    if args.command == "ui":
        from tinyllm.sync.ui import serve

        serve(args.host, args.port, args.allowed_hosts, further)
        return
    if args.command == "follow":
        sys.exit(follow(args.journal))
    if args.command == "rebuild":
        from tinyllm.sync.rebuild import rebuild  # torch and DVC take seconds

        sys.exit(min(1, rebuild()))
    if not pending():
        print("MLflow has everything.")
    sys.exit(min(1, sync(OTHER_SENDER, everything=True)))


def set_up_mlflow(root: Path) -> None:
    """Choose MLflow's settings, as far as the user has not."""
    os.environ["DVC_ROOT"] = str(root)
    os.chdir(root)  # for a relative sqlite:///; and a DVC experiment's folder will vanish
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        # Not by its path: in an address, a `?` or `%2F` in a folder's name has another meaning.
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # a trace at each failure; the reason is printed anyway
        # MLflow's job runners are seven processes and 1.7 GB that looking at runs has no use for.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of no use in a log
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        # A call made again by itself could make a second run; the next attempt looks first.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def follow(folder: Path) -> int:
    """Send a journal every few seconds until the stage that writes it has ended.

    Returns:
        exit status: 0 if MLflow has all of it.
    """
    weigh(10)
    stage_has_ended = threading.Event()

    def wait_for_stage() -> None:
        os.read(sys.stdin.fileno(), 1)  # a byte, or the end of input if the stage was killed
        weigh(0)
        stage_has_ended.set()

    threading.Thread(target=wait_for_stage, daemon=True).start()
    with locked(folder, math.inf) as mine:
        delivery = Delivery(folder)
        over = done = not mine
        while not (over or done):
            over = stage_has_ended.is_set()  # before the attempt, which then finds everything
            done = delivery.attempt()
            if not (over or done):
                stage_has_ended.wait(INTERVAL)
    if done or delivery.arrived:
        sync(patience=0)  # what earlier stages could not send
    return 0 if done else 1


def weigh(nice: int) -> None:
    """Give way to other processes (10), or no more (0) where the system lets that be undone.

    Linux may weigh whole sessions against each other, and then the niceness of a process alone,
    in a session of its own, counts for nothing: with only that, a busy follower was measured to
    take a third of the trainer's speed. A session that is not its own it leaves alone.
    """
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(nice))
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, os.getpid(), nice)


if __name__ == "__main__":
    console.run(main)
