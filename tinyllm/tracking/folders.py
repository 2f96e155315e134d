"""Where the pipeline keeps what is no stage's output: journals and checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyllm.common.files import STATE_FOLDER, project_root
from tinyllm.tracking.locks import Lock

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


def writer_lock(folder: Path) -> Lock:
    """The lock of the stage that writes a journal, as long as it does."""
    return Lock(folder / JOURNAL, journals_folder() / f".{folder.name.strip('.')}.writer")


def sender_lock(folder: Path) -> Lock:
    """The lock of the process that sends a journal to MLflow."""
    return Lock(folder / "lock", journals_folder() / f".{folder.name}.sender")


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[bool]:
    """Be the one who sends a journal, waiting so many seconds for another who does.

    Gives False if the other is not done by then, or if nothing is left to send.
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
