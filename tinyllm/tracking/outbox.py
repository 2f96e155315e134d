"""Journals on their way to MLflow: which are waiting, who sends one, what becomes of it after."""

import shutil
import sys
from pathlib import Path

from tinyllm.tracking.folders import JOURNAL, journals_folder, locked, sent_folder, writer_lock
from tinyllm.tracking.journal import FILES
from tinyllm.tracking.mlflow.refusals import Refusals, reason_of
from tinyllm.tracking.mlflow.runs import MODEL_TAG
from tinyllm.tracking.mlflow.store import Sender

KEEP_BYTES = 200_000_000  # of sent journals, the latest
OTHER_SENDER = 60.0  # seconds to wait for another process that sends a journal


class Delivery:
    """One journal's way to MLflow, tried as often as it takes; hold its lock meanwhile.

    Args:
        everything: try what MLflow has refused at once; else each thing when it is due.

    Attributes:
        error: what went wrong at the last attempt, or nothing.
        arrived: whether MLflow has all of it but for what it has refused.
    """

    def __init__(self, folder: Path, *, everything: bool = False) -> None:
        self.folder = folder
        self.everything = everything
        self.error = ""
        self.arrived = False
        self._sender: Sender | None = None

    def attempt(self) -> bool:
        """Send what is new. Returns whether MLflow has all of it now, and all there will be."""
        # Before reading: what a stage that is gone has left is all there will be.
        alive = stage_is_alive(self.folder)
        try:
            self._sender = self._sender or Sender(self.folder)
            self._send_the_training_run_first(self._sender)
            self._sender.send(everything=self.everything)
            if not (alive or self._sender.ended):
                self._sender.kill(int((self.folder / JOURNAL).stat().st_mtime * 1000))
            self.arrived = self._sender.ended
            if refusals := self._sender.refusals.kept:
                self._report_kept(self._sender.refusals)
            else:
                self._report("")
            if self.arrived and not refusals:
                archive(self.folder)
                return True
        except Exception as error:  # whatever MLflow raises: it may be well at the next attempt
            self._report(f"not sent: {reason_of(error)}")
        return False

    def _send_the_training_run_first(self, sender: Sender) -> None:
        """A stage that adds to the run which made a model needs that run to be there."""
        if sender.run_id or not sender.header["model_sha256"]:
            return
        made_it = f'"{MODEL_TAG}": "{sender.header["model_sha256"]}"'.encode()
        for other in pending():
            if other != self.folder and _holds(other, made_it):
                delivery = Delivery(other)
                with locked(other, OTHER_SENDER) as mine:
                    if mine:
                        delivery.attempt()
                if other.exists() and not delivery.arrived:
                    raise RuntimeError(f"{other.name} goes first, and is not sent")

    def _report_kept(self, refusals: Refusals) -> None:
        """Say what MLflow has refused: once, and whenever somebody asks for it to be sent."""
        error = f"sent, except what MLflow refused (kept, to be sent later): {refusals}"
        if refusals.news or self.everything:
            refusals.news = False
            self._report(error)
        self.error = error

    def _report(self, error: str) -> None:
        """Say what is wrong, once: an outage may last for days."""
        if error and error != self.error:
            print(f"{self.folder.name}: {error}", flush=True)
        self.error = error


def sync(patience: float, *, everything: bool = False) -> int:
    """Send every journal that is waiting, the oldest first. Returns the number that failed.

    Args:
        patience: seconds to wait for another process that is sending one, whose stage has ended.
        everything: also what was refused, and is to be tried again later.
    """
    failures = 0
    for folder in pending():
        try:
            failures += not _sync_one(folder, patience, everything=everything)
        except OSError as error:  # another user's, for instance: it stops no other
            print(f"{folder.name}: not sent: {error}", flush=True)
            failures += 1
    return failures


def _sync_one(folder: Path, patience: float, *, everything: bool) -> bool:
    """Send one journal. Returns whether nothing went wrong."""
    alive = stage_is_alive(folder)
    well = True
    with locked(folder, 0 if alive else patience) as mine:
        if mine:
            delivery = Delivery(folder, everything=everything)
            if delivery.attempt():
                print(f"{folder.name}: sent")
            well = not delivery.error
        elif folder.exists() and not alive:
            print(f"{folder.name}: another process is still sending it", file=sys.stderr)
            well = False
    if alive:
        print(f"{folder.name}: its stage is running")
    return well


def pending() -> list[Path]:
    """Journals that MLflow has not got whole, the oldest first."""
    return sorted(filter(_is_there, journals_folder().glob("[!.]*")))


def _is_there(folder: Path) -> bool:
    try:
        return (folder / JOURNAL).exists()
    except OSError:  # another user's, as of root in a container: reported when it is sent
        return True


def _holds(folder: Path, line: bytes) -> bool:
    try:
        return line in (folder / JOURNAL).read_bytes()
    except OSError:
        return False


def stage_is_alive(folder: Path) -> bool:
    """Whether the stage that writes a journal still does."""
    try:
        return writer_lock(folder).is_held()
    except FileNotFoundError:  # sent and put away meanwhile
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
