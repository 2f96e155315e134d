"""Send journals to MLflow.

python -m tinyllm.tracking sync            send what MLflow has not got yet
python -m tinyllm.tracking follow JOURNAL  send one journal while it grows (the stages start it)
"""

import argparse
import os
import select
import shutil
import sys
from pathlib import Path

from tinyllm.tracking.journal import FILES, JOURNAL, project_root
from tinyllm.tracking.mlflow_store import Sender, locked, pending

INTERVAL = 5.0  # seconds between batches
ONE_TRY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync")
    commands.add_parser("follow").add_argument("journal", type=Path)
    args = parser.parse_args()
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{project_root() / 'mlflow.db'}")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name, value in ONE_TRY.items():
        os.environ.setdefault(name, value)
    if args.command == "sync":
        sys.exit(sync())
    follow(args.journal)


def follow(folder: Path) -> None:
    """Send a journal every few seconds until the stage that writes it has ended."""
    os.nice(10)  # the trainer goes first
    with locked(folder) as mine:
        if not mine:
            return
        sender, alive = None, True
        while alive:
            alive = not _stage_has_ended(INTERVAL)
            try:
                sender = sender or Sender(folder)
                if not alive:
                    sync()
                sender.send()
            except Exception as error:  # whatever MLflow raises: it may be well at the next try
                print(f"not sent: {error}", flush=True)
                if not alive:
                    sys.exit(1)
        assert sender is not None
        _close(sender)


def sync() -> int:
    """Send every journal that no other process is sending. Returns the number that failed."""
    failures = 0
    for folder in pending():
        with locked(folder) as mine:
            if not mine:
                continue
            try:
                sender = Sender(folder)
                sender.send()
                _close(sender)
            except Exception as error:  # as above
                print(f"{folder.name}: not sent: {error}", file=sys.stderr)
                failures += 1
    return failures


def _close(sender: Sender) -> None:
    """The journal's stage is gone: end its run, and remove what MLflow has now."""
    if not sender.ended:
        sender.kill(int((sender.folder / JOURNAL).stat().st_mtime * 1000))
    shutil.rmtree(sender.folder / FILES, ignore_errors=True)
    done = project_root() / ".tinyllm" / "sent"
    done.mkdir(exist_ok=True)
    sender.folder.rename(done / sender.folder.name)


def _stage_has_ended(seconds: float) -> bool:
    """Wait for the other end of standard input to close, at most so long."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not sys.stdin.read(1)


if __name__ == "__main__":
    main()
