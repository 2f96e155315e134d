"""Stopping between two steps when asked to."""

import os
import signal
import time
from types import FrameType, TracebackType

from tinyllm.common.os_processes import DVC_IS_GONE

REASONS = {
    signal.SIGINT: "SIGINT",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP",
    DVC_IS_GONE: "the end of DVC",
}
# Seconds in which a request may reach a rank twice: from the launcher, and from whoever stops all
# processes of a machine, as Slurm and systemd do.
ECHO = 2.0


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and did so after saving where it was."""


class Interruption:
    """Notes SIGINT, SIGTERM, SIGHUP (a closed terminal), and that DVC is gone.

    Used as a context. A second SIGINT or SIGTERM ends the process at once; one of several ranks if
    it comes later than an echo of the first would.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal to stop for; 0: go on
        self._noted = 0.0
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in REASONS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # not nohup
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
        self.number, self._noted = number, time.monotonic()
        second = self._end_if_no_echo if "RANK" in os.environ else signal.SIG_DFL
        for each in self._handlers:
            ends = each in (signal.SIGINT, signal.SIGTERM)
            signal.signal(each, second if ends else signal.SIG_IGN)

    def _end_if_no_echo(self, number: int, _frame: FrameType | None) -> None:
        if time.monotonic() - self._noted > ECHO:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
