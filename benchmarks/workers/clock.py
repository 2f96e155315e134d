"""The time of a process, less what it spends on evaluations."""

import time


class Clock:
    """Seconds since the process started, imports included, while it isn't stopped."""

    def __init__(self, started: float) -> None:
        """Count from a time, as `time.time()` returns it.

        The system's own record of a process's start can be wrong by a second: it adds the start to
        the time at which the machine booted, which Linux rounds to seconds.
        """
        self._origin = started
        self._stopped: float | None = None

    @property
    def seconds(self) -> float:
        return (self._stopped or time.time()) - self._origin

    def stop(self) -> None:
        """Stop now, or again now if it is stopped."""
        self._stopped = time.time()

    def go_on(self) -> None:
        """Exclude the time since it was stopped."""
        if self._stopped is not None:
            self._origin += time.time() - self._stopped
            self._stopped = None
