"""Stopping between two steps when asked to."""

import signal
from types import FrameType, TracebackType

from tinyllm.common.processes import DVC_IS_GONE

REASONS = {
    signal.SIGINT: "SIGINT",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "SIGHUP",
    DVC_IS_GONE: "the end of DVC",
}


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and did so after saving where it was."""


class Interruption:
    """Notes SIGINT, SIGTERM, SIGHUP (a closed terminal), and that DVC is gone.

    Used as a context. A second SIGINT or SIGTERM ends the process at once.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal to stop for; 0: go on
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
        self.number = number
        for each in self._handlers:
            second = each in (signal.SIGINT, signal.SIGTERM)
            signal.signal(each, signal.SIG_DFL if second else signal.SIG_IGN)
