"""The local record of a run: one JSON object a line, appended as things happen.

    {"kind": "run", "time": ..., ...}                  once, first: see `Header`
    {"kind": "metrics", "time": ..., "step": 7, "values": {"train/loss": 3.1, ...}}
    {"kind": "tags", "time": ..., "values": {...}}
    {"kind": "file", "time": ..., "path": ..., "folder": ...}
    {"kind": "end", "time": ..., "status": "FINISHED", "reason": ""}
                                                       FINISHED, FAILED or KILLED, and why
    {"kind": "resume", "time": ...}                    the stage goes on where it was interrupted

Times are milliseconds since 1970. While a journal is being written it is locked, so that a journal
without an end and without a lock is known to be of a stage that was killed. Passwords in addresses
are masked; what lies in a journal's folder is its owner's alone all the same.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tinyllm.common import console
from tinyllm.common.files import write_text
from tinyllm.settings.runtime import Runtime
from tinyllm.tracking.folders import JOURNAL, journals_folder, locked, sent_folder, writer_lock
from tinyllm.tracking.follower import LOG, follow, wait_for
from tinyllm.tracking.locks import Lock
from tinyllm.tracking.masking import masked, without_secrets

FILES = "files"  # what the journal records, kept beside it until MLflow has it
REOPEN_PATIENCE = 5.0  # seconds to wait for a process that still sends an interrupted journal
FIELDS = {  # of each kind of event, which without one of them is damaged
    "run": {"id", "experiment", "stage", "name", "params", "tags", "note"},
    "metrics": {"step", "values"},
    "tags": {"values"},
    "file": {"path", "folder"},
    "end": {"status"},
    "resume": set[str](),
}


@dataclass(frozen=True)
class Header:
    """What a run is, as far as it is known when it begins.

    Attributes:
        stage: that writes the journal.
        name: shown in lists of runs.
        params: settings, dotted names to values.
        tags: facts to search by.
        note: Markdown, shown on the run's page.
        model_sha256: given by a stage that adds to the run which made that model.
        datasets: what the run reads: for each name, digest, source, role and profile.
    """

    stage: str
    name: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""
    model_sha256: str | None = None
    datasets: list[dict[str, Any]] = field(default_factory=list)


class Journal:
    """Appends a run's events to its journal, and has them sent to MLflow meanwhile.

    Used as a context: leaving it ends the run, as FINISHED, FAILED or KILLED. It never stops the
    stage: where the journal cannot be written (a full disk, a folder of another user) it says so
    once and goes on.

    Args:
        bookmark: file that remembers the journal of a stage which can be interrupted. The journal
            that it names is gone on with; what that holds already is not recorded again. Where it
            says that the stage has finished, nothing is recorded: all of it was.
        live: whether MLflow gets it while it grows; if not, the next sync sends it.
    """

    def __init__(
        self,
        header: Header,
        settings: Runtime,
        bookmark: Path | None = None,
        *,
        live: bool = True,
    ) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        identity = f"{stamp}-{secrets.token_hex(3)}-{header.stage}"  # sorts by time
        self.folder = journals_folder() / identity
        self._recorded: dict[str, int] = {}  # metric to its last step, before an interruption
        self._file: int | None = None
        self._lock: Lock | None = None
        self._follower: subprocess.Popen[bytes] | None = None
        self._complete = True
        self._live = live
        if settings.tracker == "none":
            return
        name = None if bookmark is None else _name_in(bookmark)
        if name is not None and _has_finished(name):
            return
        try:
            if name is None or not self._reopen(name):
                content = {"experiment": settings.experiment, **asdict(header)}
                self._create({"id": identity, **without_secrets(content)})
            if bookmark is not None:
                write_text(bookmark, self.folder.name)
        except Exception as error:  # whatever it is, no stage stops for its record
            self._warn(error)
        if live:
            with suppress(OSError):  # told at the end
                self._follower = follow(self.folder)

    def _create(self, header: dict[str, Any]) -> None:
        """Publish a journal that is locked and has its first line from the beginning."""
        hidden = self.folder.with_name(f".{self.folder.name}")
        hidden.parent.mkdir(parents=True, exist_ok=True)
        hidden.mkdir(mode=0o700)
        lock = writer_lock(hidden)
        lock.acquire()
        self._open(hidden, lock)
        self._write("run", **header)
        hidden.rename(self.folder)

    def _open(self, folder: Path, lock: Lock) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file, self._lock = os.open(folder / JOURNAL, flags, 0o600), lock

    def _reopen(self, name: str) -> bool:
        """Go on with an interrupted stage's journal; False if it is there no more."""
        folder = journals_folder() / name
        sent = sent_folder() / folder.name
        with locked(folder if folder.exists() else sent, REOPEN_PATIENCE) as mine:
            if not mine:
                return False
            if not folder.exists():
                sent.rename(folder)
            lock = writer_lock(folder)
            # Workers that a killed stage left behind hold its lock until they notice.
            if not lock.acquire(REOPEN_PATIENCE):
                return False
            self._open(folder, lock)
            self.folder = folder
            end = 0
            for event, position in events(folder / JOURNAL, 0):
                end = position
                if event is not None and event["kind"] == "metrics":
                    self._recorded |= dict.fromkeys(event["values"], event["step"])
            os.truncate(folder / JOURNAL, end)  # the last line may have been cut short
            self._write("resume")
        return True

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record numbers of one step."""
        new = {name: v for name, v in values.items() if step > self._recorded.get(name, -1)}
        if new:
            self._write("metrics", step=step, values=new)

    def tags(self, values: dict[str, str]) -> None:
        """Record facts about the run."""
        self._write("tags", values=values)

    def file(self, path: Path, name: str) -> None:
        """Record a file as it is now, or all files of a folder, under a name of its own."""
        if self._file is None:
            return
        try:
            for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if found.is_file():
                    kept = self.folder / FILES / name / found.relative_to(path)
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    _keep(found, kept)
                    self._record_file(kept)
        except OSError as error:
            self._warn(error)

    def content(self, name: str, content: bytes) -> None:
        """Record a file that exists nowhere else."""
        if self._file is None:
            return
        try:
            kept = self.folder / FILES / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            self._record_file(kept)
        except OSError as error:
            self._warn(error)

    def _record_file(self, kept: Path) -> None:
        folder = kept.parent.relative_to(self.folder / FILES).as_posix()
        self._write("file", path=kept.relative_to(self.folder).as_posix(), folder=folder)

    def _write(self, kind: str, **content: Any) -> None:
        if self._file is None:
            return
        event = {"kind": kind, "time": time.time_ns() // 1_000_000, **content}
        try:
            os.write(self._file, (json.dumps(event, default=str) + "\n").encode())
        except OSError as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if self._complete:
            print(f"MLflow will not get all of this run: {error}", file=sys.stderr)
        self._complete = False

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        status = "FINISHED"
        if kind is not None:
            interrupted = issubclass(kind, (KeyboardInterrupt, SystemExit))
            status = "KILLED" if interrupted else "FAILED"
        self._write("end", status=status, reason=masked(_reason(error)))
        os.close(self._file)
        self._file = None
        if self._lock is not None:
            with suppress(OSError):
                self._lock.release()
        if self._live:
            wait_for(self._follower, self.folder / LOG)


def events(journal: Path, position: int) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """The complete lines from a position on, each with the position after it; None: damaged."""
    with journal.open("rb") as file:
        file.seek(position)
        for line in file:
            position += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
            except ValueError:  # half a line, where the disk was full or the power went
                event = None
            yield event if _is_whole(event) else None, position


def _is_whole(event: Any) -> bool:
    """Whether a line is one of ours, with all that its kind has."""
    if not isinstance(event, dict) or not isinstance(event.get("time"), int):
        return False
    fields = FIELDS.get(str(event.get("kind")))
    values = event.get("values", {})
    return fields is not None and fields <= event.keys() and isinstance(values, dict)


def _reason(error: BaseException | None) -> str:
    """Why a stage did not come to its end, for people; nothing if it did."""
    if error is None:
        return ""
    told = console.cause(error) if isinstance(error, Exception) else str(error) or "interrupted"
    return told or f"{type(error).__name__}: {error}"


def _name_in(bookmark: Path) -> str | None:
    """The journal that a bookmark names; None: there is none, or it is damaged."""
    try:
        name = bookmark.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return name if re.fullmatch(r"[\w-]+", name) else None


def _has_finished(name: str) -> bool:
    """Whether a journal's last line says that its stage came to its end."""
    for folder in (journals_folder(), sent_folder()):  # in this order: a sender may move it now
        with suppress(OSError):
            last = None
            for event, _ in events(folder / name / JOURNAL, 0):
                last = event
            return last is not None and last.get("status") == "FINISHED"
    return False


def _keep(source: Path, target: Path) -> None:
    """A second name for a file's content; a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
