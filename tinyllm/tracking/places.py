"""Where the pipeline keeps what is no stage's output: journals and checkpoints."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tinyllm.common.files import STATE_FOLDER, project_root

JOURNAL = "journal.jsonl"


def trainings_folder() -> Path:
    """Where trainings keep their checkpoints."""
    return project_root() / STATE_FOLDER / "trainings"


def journals_folder() -> Path:
    """Where journals wait until MLflow has them."""
    return project_root() / STATE_FOLDER / "journals"


def sent_folder() -> Path:
    """Where journals lie that MLflow has."""
    return project_root() / STATE_FOLDER / "sent"


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[bool]:
    """Be the one who sends a journal, waiting so many seconds for another who does.

    Gives False if the other is not done by then, or if nothing is left to send.
    """
    try:
        file = (folder / "lock").open("w")
    except FileNotFoundError:
        yield False
        return
    with file:
        yield lock(file, patience) and (folder / JOURNAL).exists()


def lock(file: IO[Any] | int, patience: float = 0.0) -> bool:
    """Lock an open file for this process, waiting so many seconds for another that has it locked.

    Returns:
        whether it is locked now; it stays so until it is closed.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.2)
