"""Folders of files that are not outputs of a stage: journals and checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyllm.common.files import STATE_FOLDER, project_root
from tinyllm.tracking.locks import Lock

JOURNAL = "journal.jsonl"


def trainings_folder() -> Path:
    """The folder of all trainings' checkpoints."""
    return project_root() / STATE_FOLDER / "trainings"


def journals_folder() -> Path:
    """The folder of journals that are not completely sent to MLflow."""
    return project_root() / STATE_FOLDER / "journals"


def sent_folder() -> Path:
    """The folder of journals that have been sent to MLflow."""
    return project_root() / STATE_FOLDER / "sent"


def writer_lock(folder: Path) -> Lock:
    """The lock that a stage holds while it writes a journal."""
    return Lock(folder / JOURNAL, journals_folder() / f".{folder.name.strip('.')}.writer")


def sender_lock(folder: Path) -> Lock:
    """The lock that a process holds while it sends a journal to MLflow."""
    return Lock(folder / "lock", journals_folder() / f".{folder.name}.sender")


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[bool]:
    """Take the lock for sending a journal, waiting up to `patience` seconds for another process.

    Yields False if another process still holds the lock, or if the journal has been sent.
    """
    lock = sender_lock(folder)
    try:
        mine = lock.acquire(patience) and (folder / JOURNAL).exists()
    except FileNotFoundError:
        mine = False
    try:
        yield mine
    finally:
        lock.release()
