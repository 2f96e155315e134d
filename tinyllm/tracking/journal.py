"""The local record of a run: one JSON object per line, appended as the run proceeds.

    {"kind": "run", "time": ..., ...}                  once, first: see `Header`
    {"kind": "metrics", "time": ..., "step": 7, "values": {"loss/batch": 3.1, ...}}
    {"kind": "tags", "time": ..., "values": {...}}
    {"kind": "file", "time": ..., "path": ..., "folder": ...}
    {"kind": "model", "time": ..., ...}                see `ModelRecord`
    {"kind": "end", "time": ..., "status": "FINISHED", "reason": ""}
                                                       FINISHED, FAILED or KILLED, and why
    {"kind": "resume", "time": ...}                    the stage resumes after an interruption

Times are milliseconds since 1970. A stage locks its journal while it writes it; a journal with
neither an end nor a lock belongs to a stage that was killed. Passwords in addresses are masked, and
only the owner can read a journal's folder.
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
from tinyllm.tracking import model_record
from tinyllm.tracking.folders import JOURNAL, journals_folder, locked, sent_folder, writer_lock
from tinyllm.tracking.follower import LOG, follow, wait_for
from tinyllm.tracking.kept_files import keep, link
from tinyllm.tracking.locks import Lock
from tinyllm.tracking.masking import masked, without_secrets
from tinyllm.tracking.model_record import ModelRecord

FILES = "files"  # folder of recorded files, kept until MLflow has them
REOPEN_PATIENCE = 5.0  # seconds to wait for a process that is sending the interrupted journal
FIELDS = {  # required fields of each kind of event
    "run": {"id", "experiment", "stage", "name", "params", "tags", "note"},
    "metrics": {"step", "values"},
    "tags": {"values"},
    "file": {"path", "folder"},
    "model": {"name", "script", "signature", "example", "requirements", "note", "dataset"},
    "end": {"status"},
    "resume": set[str](),
}


@dataclass(frozen=True)
class Header:
    """The description of a run at its start.

    Attributes:
        stage: the stage that writes the journal.
        name: name in lists of runs.
        params: settings, by dotted name.
        tags: facts to search by.
        note: Markdown, shown on the run's page.
        model_sha256: set by a stage that adds to the run which trained that model.
        twin_tag: the tag in which runs that trained the same model differ.
        datasets: the data that the run reads: name, digest, source, role and profile of each.
    """

    stage: str
    name: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""
    model_sha256: str | None = None
    twin_tag: str | None = None
    datasets: list[dict[str, Any]] = field(default_factory=list)


class Journal:
    """Appends a run's events to its journal, while a follower sends them to MLflow.

    Use it as a context manager: leaving it ends the run as FINISHED, FAILED or KILLED. It never
    stops the stage: if the journal can't be written (a full disk, another user's folder), it prints
    a warning once and continues.

    Args:
        bookmark: file with the journal's name, for a stage that can be interrupted. If the file
            exists, its journal continues, and events already in it are not recorded again. If that
            journal is finished, nothing is recorded.
        reopen: whether to continue a finished journal too.
        live: whether to send the journal while it is written; if not, the next sync sends it.
    """

    def __init__(
        self,
        header: Header,
        settings: Runtime,
        bookmark: Path | None = None,
        *,
        reopen: bool = False,
        live: bool = True,
    ) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        identity = f"{stamp}-{secrets.token_hex(3)}-{header.stage}"  # sorts by time
        self.folder = journals_folder() / identity
        self._recorded: dict[str, int] = {}  # last step of each metric before an interruption
        self._file: int | None = None
        self._lock: Lock | None = None
        self._follower: subprocess.Popen[bytes] | None = None
        self._complete = True
        self._live = live
        if settings.tracker == "none":
            return
        name = None if bookmark is None else _name_in(bookmark)
        if name is not None and not reopen and _has_finished(name):
            return
        try:
            if name is None or not self._reopen(name):
                content = {"experiment": settings.experiment, **asdict(header)}
                self._create({"id": identity, **without_secrets(content)})
            if bookmark is not None:
                write_text(bookmark, self.folder.name)
        except Exception as error:  # of any kind: a stage never stops because of its record
            self._warn(error)
        if live:
            with suppress(OSError):  # reported at the end
                self._follower = follow(self.folder)

    def _create(self, header: dict[str, Any]) -> None:
        """Publish a journal that is already locked and has its first line."""
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
        """Continue an interrupted stage's journal. Returns False if it no longer exists."""
        folder = journals_folder() / name
        sent = sent_folder() / folder.name
        with locked(folder if folder.exists() else sent, REOPEN_PATIENCE) as mine:
            if not mine:
                return False
            if not folder.exists():
                sent.rename(folder)
            lock = writer_lock(folder)
            # Workers of a killed stage hold its lock until they exit.
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
        """Record the numbers of one step."""
        new = {name: v for name, v in values.items() if step > self._recorded.get(name, -1)}
        if new:
            self._write("metrics", step=step, values=new)

    def tags(self, values: dict[str, str]) -> None:
        """Record facts about the run."""
        self._write("tags", values=values)

    def file(self, path: Path, name: str) -> None:
        """Record a file, or all files of a folder, as they are now, under a name in the run."""
        if self._file is None:
            return
        try:
            for kept in keep(path, self.folder / FILES / name, link):
                self._record_file(kept)
        except OSError as error:
            self._warn(error)

    def content(self, name: str, content: bytes) -> None:
        """Record content as a file that exists only in the run."""
        if self._file is None:
            return
        try:
            kept = self.folder / FILES / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            self._record_file(kept)
        except OSError as error:
            self._warn(error)

    def model(self, record: ModelRecord, folder: Path, code: dict[str, Path]) -> None:
        """Record the run's model: its folder, and the modules that load it, by name."""
        if self._file is None:
            return
        kept = self.folder / FILES / model_record.FOLDER
        try:
            keep(folder, kept / model_record.MODEL, link)
            for name, path in code.items():  # a copy, because an editor may write to the file
                keep(path, kept / model_record.CODE / name, shutil.copyfile)
        except OSError as error:
            self._warn(error)
        else:
            self._write("model", **asdict(record))

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
            print(f"MLflow will not receive all of this run: {error}", file=sys.stderr)
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


def add_tags(folder: Path, values: dict[str, str]) -> None:
    """Record facts about the run of a stage that another process runs, in its journal's folder.

    The stage appends to the same file, so both write whole lines.
    """
    event = {"kind": "tags", "time": time.time_ns() // 1_000_000, "values": values}
    with (folder / JOURNAL).open("ab", buffering=0) as file:
        file.write((json.dumps(event) + "\n").encode())


def events(journal: Path, position: int) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """The complete lines from a position on, each with the position after it; None if corrupt."""
    with journal.open("rb") as file:
        file.seek(position)
        for line in file:
            position += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
            except ValueError:  # half a line, after a full disk or a power cut
                event = None
            yield event if _is_whole(event) else None, position


def _is_whole(event: Any) -> bool:
    """Whether a line is an event with all fields of its kind."""
    if not isinstance(event, dict) or not isinstance(event.get("time"), int):
        return False
    fields = FIELDS.get(str(event.get("kind")))
    values = event.get("values", {})
    return fields is not None and fields <= event.keys() and isinstance(values, dict)


def _reason(error: BaseException | None) -> str:
    """Why a stage did not finish; empty if it did."""
    if error is None:
        return ""
    reason = console.cause(error) if isinstance(error, Exception) else str(error) or "interrupted"
    return reason or f"{type(error).__name__}: {error}"


def _name_in(bookmark: Path) -> str | None:
    """The journal that a bookmark names; None if the bookmark is missing or corrupt."""
    try:
        name = bookmark.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return name if re.fullmatch(r"[\w-]+", name) else None


def _has_finished(name: str) -> bool:
    """Whether a journal's last line says that its stage finished."""
    for folder in (journals_folder(), sent_folder()):  # in this order: a sender may move it
        with suppress(OSError):
            last = None
            for event, _ in events(folder / name / JOURNAL, 0):
                last = event
            return last is not None and last.get("status") == "FINISHED"
    return False
