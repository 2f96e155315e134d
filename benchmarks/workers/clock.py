"""The time of a process, less what it spends on evaluations."""

import time

import psutil


class Clock:
    """Seconds since the process started, imports included, while it isn't stopped."""

    def __init__(self) -> None:
        self._origin = time.perf_counter() - (time.time() - psutil.Process().create_time())
        self._stopped: float | None = None

    @property
    def seconds(self) -> float:
        return (self._stopped or time.perf_counter()) - self._origin

    def stop(self) -> None:
        """Stop now, or again now if it is stopped."""
        self._stopped = time.perf_counter()

    def go_on(self) -> None:
        """Exclude the time since it was stopped."""
        if self._stopped is not None:
            self._origin += time.perf_counter() - self._stopped
            self._stopped = None
