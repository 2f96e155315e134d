"""Stopping training between two steps on a signal."""

import os
import signal
import time
from types import FrameType, TracebackType

from tinyllm.common.os_processes import STARTER_EXITED

REASONS = {
    signal.SIGINT: "SIGINT",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP",
    STARTER_EXITED: "the exit of its parent process",
}
# Seconds within which a rank may receive the same request twice: from the launcher, and from Slurm
# or systemd, which signal every process of a machine.
ECHO = 2.0


class Interruption:
    """Records SIGINT, SIGTERM, SIGHUP (a closed terminal), and the exit of the starter.

    Use it as a context manager. A second SIGINT or SIGTERM ends the process at once. With several
    ranks, one that arrives within ECHO of the first is taken for the same request.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal to stop for; 0: continue
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
