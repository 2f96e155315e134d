"""The local record of a run: one JSON object a line, appended as things happen.

    {"kind": "run", "time": ..., ...}                  once, first: see `Header`
    {"kind": "metrics", "time": ..., "step": 7, "values": {"train/loss": 3.1, ...}}
    {"kind": "tags", "time": ..., "values": {...}}
    {"kind": "file", "time": ..., "path": ..., "folder": ...}
    {"kind": "end", "time": ..., "status": "FINISHED"}  FINISHED, FAILED or KILLED

Times are milliseconds since 1970.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tinyllm.params import Runtime

JOURNAL = "journal.jsonl"
FILES = "files"
STATE_FOLDER = ".tinyllm"
PATIENCE = 5.0  # seconds that the end of a stage waits for MLflow


@dataclass(frozen=True)
class Header:
    """What a run is, as far as it is known when it begins.

    Attributes:
        name: shown in lists of runs.
        params: settings, dotted names to values.
        tags: facts to search by.
        note: Markdown, shown on the run's page.
        model_sha256: given by a stage that adds to the run which made that model.
        datasets: what the run reads: for each name, digest, source and role.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""
    model_sha256: str | None = None
    datasets: list[dict[str, Any]] = field(default_factory=list)


def project_root() -> Path:
    """The main repository, also from inside the temporary folder of a DVC experiment."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


class Journal:
    """Appends a run's events to its journal, and has them sent to MLflow meanwhile.

    Used as a context: leaving it ends the run, as FINISHED, FAILED or KILLED.
    """

    def __init__(self, header: Header, settings: Runtime) -> None:
        identity = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{header.name}"
        self.folder = project_root() / STATE_FOLDER / "journals" / identity
        self.folder.mkdir(parents=True)
        self._file = (self.folder / JOURNAL).open("a", encoding="utf-8")
        self._write("run", id=identity, experiment=settings.experiment, **asdict(header))
        self._follower = follow(self.folder) if settings.tracker == "mlflow" else None

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record numbers of one step."""
        self._write("metrics", step=step, values=values)

    def tags(self, values: dict[str, str]) -> None:
        """Record facts about the run."""
        self._write("tags", values=values)

    def file(self, path: Path, folder: str = "") -> None:
        """Record a file as it is now, or all files of a folder, to be kept under `folder`."""
        for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if found.is_file():
                name = found.relative_to(path.parent)
                kept = self.folder / FILES / folder / name
                kept.parent.mkdir(parents=True, exist_ok=True)
                _keep(found, kept)
                where = (Path(folder) / name).parent.as_posix()
                self._write("file", path=str(kept.relative_to(self.folder)), folder=where)

    def _write(self, kind: str, **content: Any) -> None:
        event = {"kind": kind, "time": time.time_ns() // 1_000_000, **content}
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = "FINISHED"
        if kind is not None:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._write("end", status=status)
        self._file.close()
        if self._follower is not None:
            wait_for(self._follower)


def follow(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that sends a journal to MLflow as it grows.

    It lives in a session of its own, so that an interruption of the stage leaves it to finish, and
    learns from the end of its standard input that the stage is gone, however that happened.
    """
    root = project_root()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"
    code = Path(__file__).resolve().parents[2]
    with (folder / "follower.log").open("ab") as log:
        return subprocess.Popen(
            # -P: the code beside this file, not what the project's root may hold meanwhile
            [sys.executable, "-P", "-m", "tinyllm.tracking", "follow", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=root,
            env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(code)},
            start_new_session=True,
        )


def wait_for(follower: subprocess.Popen[bytes]) -> None:
    """Let a follower send the rest, for a few seconds at most; it goes on alone after that."""
    assert follower.stdin is not None
    follower.stdin.close()
    try:
        failed = follower.wait(PATIENCE) != 0
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        print(
            "MLflow has not got everything yet. Nothing is lost: the next stage or "
            "`python -m tinyllm.tracking sync` sends the rest.",
            file=sys.stderr,
        )


def _keep(source: Path, target: Path) -> None:
    """A second name for a file's content; a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
