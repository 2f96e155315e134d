"""Stopping between two steps when asked to, or when the DVC that asked for it is gone."""

import os
import signal
import time
from pathlib import Path
from types import FrameType, TracebackType

import psutil

CHECK_INTERVAL = 1.0  # seconds between looks for DVC


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and did so after saving where it was."""


class Interruption:
    """Notes SIGINT and SIGTERM, and the death of the DVC that started this process.

    Used as a context. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._dvc = _dvc()
        self._looked = time.monotonic()
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.reason = signal.Signals(number).name
        for each in self._handlers:
            signal.signal(each, signal.SIG_DFL)

    def requested(self) -> str | None:
        """Why to stop, or None to go on."""
        now = time.monotonic()
        if self.reason is None and now - self._looked > CHECK_INTERVAL:
            self._looked = now
            if self._dvc is not None and not _is_alive(self._dvc):
                self.reason = "the end of the DVC process that started it"
        return self.reason


def _dvc() -> psutil.Process | None:
    """The DVC process that runs this stage, perhaps through a shell; None without DVC.

    DVC killed with SIGKILL leaves its stage behind, and a second `dvc repro` would start another.
    """
    if "DVC_STAGE" not in os.environ:
        return None
    for ancestor in psutil.Process().parents():
        try:
            if any(Path(word).stem == "dvc" for word in ancestor.cmdline()[:3]):
                return ancestor
        except psutil.Error:  # it is another user's, or has ended meanwhile
            continue
    return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
