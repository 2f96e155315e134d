"""Sends one journal to MLflow while a stage writes it; runs as a separate process.

python -m tinyllm.tracking.sender JOURNAL
"""

import math
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tinyllm.common import console
from tinyllm.common.files import project_root
from tinyllm.tracking.folders import locked
from tinyllm.tracking.mlflow.environment import set_up_mlflow
from tinyllm.tracking.outbox import Delivery, sync

INTERVAL = 5.0  # seconds between batches


def follow(folder: Path) -> int:
    """Send a journal every few seconds until the stage that writes it has ended.

    Returns:
        Exit status: 0 if MLflow has received everything.
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
            over = stage_has_ended.is_set()  # read before the attempt, which then sends everything
            done = delivery.attempt()
            if not (over or done):
                stage_has_ended.wait(INTERVAL)
    if done or delivery.arrived:
        sync(patience=0)  # what earlier stages could not send
    return 0 if done else 1


def weigh(nice: int) -> None:
    """Set this process's niceness: 10 yields to others, 0 does not (if the system allows it).

    Linux may schedule whole sessions against each other, so that the niceness of a process alone in
    its session has no effect: with niceness only, a busy follower slowed the trainer by a third. So
    this also sets the session's weight, unless the session belongs to another process.
    """
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(nice))
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, os.getpid(), nice)


def main() -> None:
    set_up_mlflow(project_root())
    sys.exit(follow(Path(sys.argv[1])))


if __name__ == "__main__":
    console.run(main)
