"""Sending journals to MLflow: which are waiting, which process sends one, and archiving it."""

import shutil
import sys
from pathlib import Path

from tinyllm.tracking.folders import JOURNAL, journals_folder, locked, sent_folder, writer_lock
from tinyllm.tracking.journal import FILES
from tinyllm.tracking.mlflow.refusals import Refusals, reason_of
from tinyllm.tracking.mlflow.runs import MODEL_TAG, PARENT_TAG
from tinyllm.tracking.mlflow.store import Sender

KEEP_BYTES = 200_000_000  # of the latest sent journals
OTHER_SENDER = 60.0  # seconds to wait for another process that is sending a journal


class Delivery:
    """Sends one journal to MLflow, in as many attempts as it takes; hold its lock while sending.

    Args:
        everything: retry refused items at once; if False, retry each when it is due.

    Attributes:
        error: the error of the last attempt; empty if there was none.
        arrived: whether MLflow has everything except what it refused.
    """

    def __init__(self, folder: Path, *, everything: bool = False) -> None:
        self.folder = folder
        self.everything = everything
        self.error = ""
        self.arrived = False
        self._sender: Sender | None = None

    def attempt(self) -> bool:
        """Send what is new. Returns whether MLflow has everything and no more will come."""
        # Before reading: a stage that has exited writes nothing more.
        alive = stage_is_alive(self.folder)
        try:
            self._sender = self._sender or Sender(self.folder)
            self._send_the_parent_first(self._sender)
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
        except Exception as error:  # of any kind: the next attempt may work
            self._report(f"not sent: {reason_of(error)}")
        return False

    def _send_the_parent_first(self, sender: Sender) -> None:
        """Send the journal whose run has this one as a child, unless MLflow has that run."""
        if sender.run_id or not sender.runs.lacks_parent():
            return
        parent = journals_folder() / sender.header["tags"][PARENT_TAG]
        with locked(parent) as mine:
            if mine:
                Delivery(parent).attempt()
        # Its run may have been deleted in MLflow: then this one has no parent.
        if parent.exists() and sender.runs.lacks_parent():
            raise RuntimeError(f"{parent.name} must be sent first, and was not sent")

    def _send_the_training_run_first(self, sender: Sender) -> None:
        """Send the journal that trained this journal's model, whose run this one adds to."""
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
                    raise RuntimeError(f"{other.name} must be sent first, and was not sent")

    def _report_kept(self, refusals: Refusals) -> None:
        """Print what MLflow refused, once, and again at each `tinyllm sync`."""
        error = f"sent, except what MLflow refused (kept, to be sent later): {refusals}"
        if refusals.news or self.everything:
            refusals.news = False
            self._report(error)
        self.error = error

    def _report(self, error: str) -> None:
        """Print an error once: an outage may last for days."""
        if error and error != self.error:
            print(f"{self.folder.name}: {error}", flush=True)
        self.error = error


def sync(patience: float, *, everything: bool = False) -> int:
    """Send every waiting journal, oldest first. Returns the number that failed.

    Args:
        patience: seconds to wait for another process that is sending a journal of an ended stage.
        everything: whether to retry refused items that are not due yet.
    """
    failures = 0
    for folder in pending():
        try:
            failures += not _sync_one(folder, patience, everything=everything)
        except OSError as error:  # another user's, for instance: send the others anyway
            print(f"{folder.name}: not sent: {error}", flush=True)
            failures += 1
    return failures


def _sync_one(folder: Path, patience: float, *, everything: bool) -> bool:
    """Send one journal. Returns whether that succeeded."""
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
    """Journals that MLflow has not completely received, oldest first."""
    return sorted(filter(_is_there, journals_folder().glob("[!.]*")))


def _is_there(folder: Path) -> bool:
    try:
        return (folder / JOURNAL).exists()
    except OSError:  # another user's, such as root's in a container: reported when it is sent
        return True


def _holds(folder: Path, line: bytes) -> bool:
    try:
        return line in (folder / JOURNAL).read_bytes()
    except OSError:
        return False


def stage_is_alive(folder: Path) -> bool:
    """Whether the stage that writes a journal is still running."""
    try:
        return writer_lock(folder).is_held()
    except FileNotFoundError:  # it has been sent and archived
        return False


def archive(folder: Path) -> None:
    """Archive a sent journal without its files, which MLflow has, and delete old ones."""
    shutil.rmtree(folder / FILES, ignore_errors=True)
    sent = sent_folder()
    sent.mkdir(exist_ok=True)
    folder.rename(sent / folder.name)
    size = 0
    for journal in sorted(sent.iterdir(), reverse=True):
        size += sum(file.stat().st_size for file in journal.glob("*"))
        if size > KEEP_BYTES:
            shutil.rmtree(journal, ignore_errors=True)
