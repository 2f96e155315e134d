"""Journals on their way to MLflow: which are waiting, who sends one, what becomes of it after."""

import fcntl
import shutil
import sys
from pathlib import Path

from tinyllm.sync.mlflow_store import MODEL_TAG, Sender
from tinyllm.tracking.journal import FILES
from tinyllm.tracking.places import JOURNAL, journals_folder, locked, sent_folder

KEEP_BYTES = 200_000_000  # of sent journals, the latest
OTHER_SENDER = 60.0  # seconds to wait for another process that sends a journal


class Delivery:
    """One journal's way to MLflow, tried as often as it takes; hold its lock meanwhile.

    Attributes:
        error: what went wrong at the last attempt, or nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error = ""
        self._sender: Sender | None = None

    def attempt(self) -> bool:
        """Send what is new. Returns whether MLflow has all of it now, and all there will be."""
        # Before reading: what a stage that is gone has left is all there will be.
        alive = stage_is_alive(self.folder)
        try:
            self._sender = self._sender or Sender(self.folder)
            self._send_the_training_run_first(self._sender)
            self._sender.send()
            if alive and not self._sender.ended:
                self._report("")
                return False
            if not self._sender.ended:
                self._sender.kill(int((self.folder / JOURNAL).stat().st_mtime * 1000))
            archive(self.folder)
        except Exception as error:  # whatever MLflow raises: it may be well at the next attempt
            self._report(" ".join(str(error).split()) or type(error).__name__)
            return False
        self._report("")
        return True

    def _send_the_training_run_first(self, sender: Sender) -> None:
        """A stage that adds to the run which made a model needs that run to be there."""
        if sender.run_id is not None or not sender.header["model_sha256"]:
            return
        made_it = f'"{MODEL_TAG}": "{sender.header["model_sha256"]}"'.encode()
        for other in pending():
            if other != self.folder and made_it in (other / JOURNAL).read_bytes():
                with locked(other, OTHER_SENDER) as mine:
                    if mine:
                        Delivery(other).attempt()
                if other.exists():
                    raise RuntimeError(f"{other.name} goes first, and is not sent")

    def _report(self, error: str) -> None:
        """Say what is wrong, once: an outage may last for days."""
        if error and error != self.error:
            print(f"{self.folder.name}: not sent: {error}", flush=True)
        self.error = error


def sync(patience: float) -> int:
    """Send every journal that is waiting, the oldest first. Returns the number that failed.

    Args:
        patience: seconds to wait for another process that is sending one, whose stage has ended.
    """
    failures = 0
    for folder in pending():
        alive = stage_is_alive(folder)
        with locked(folder, 0 if alive else patience) as mine:
            if mine:
                delivery = Delivery(folder)
                done = delivery.attempt()
                failures += bool(delivery.error)
                if done:
                    print(f"{folder.name}: sent")
            elif folder.exists() and not alive:
                print(f"{folder.name}: another process is still sending it", file=sys.stderr)
                failures += 1
        if alive:
            print(f"{folder.name}: its stage is running")
    return failures


def pending() -> list[Path]:
    """Journals that MLflow has not got whole, the oldest first."""
    folders = journals_folder().glob("[!.]*")
    return sorted(folder for folder in folders if (folder / JOURNAL).exists())


def stage_is_alive(folder: Path) -> bool:
    """Whether the stage that writes a journal still does."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # sent and put away meanwhile
        return False
    return False


def archive(folder: Path) -> None:
    """Put a sent journal away, without the files that MLflow has now, and drop old ones."""
    shutil.rmtree(folder / FILES, ignore_errors=True)
    sent = sent_folder()
    sent.mkdir(exist_ok=True)
    folder.rename(sent / folder.name)
    size = 0
    for journal in sorted(sent.iterdir(), reverse=True):
        size += sum(file.stat().st_size for file in journal.glob("*"))
        if size > KEEP_BYTES:
            shutil.rmtree(journal, ignore_errors=True)
