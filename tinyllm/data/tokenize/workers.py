"""Process one stream on all cores, in order.

Processes, not threads: the Python code for each document would wait for the interpreter lock.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TypeVar

from tinyllm.common.os_processes import available_cores

Task = TypeVar("Task")
Result = TypeVar("Result")

BYTES_EACH = 4_000_000  # starting a process takes as long as encoding this much: half a second


class Workers:
    """Worker processes, which end with this process; with fewer than two, it does the work itself.

    Use it as a context manager.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    @classmethod
    def for_bytes(cls, size: int) -> "Workers":
        """Create workers for the available cores, but no more than text of that size needs."""
        return cls(min(available_cores(), size // BYTES_EACH))

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result]]:
        """Yield each task with the function's result, in order; reads a few tasks ahead.

        Raises:
            ChildProcessError: A worker was killed.
        """
        if self.count < 2:
            yield from ((task, function(task)) for task in tasks)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.count, multiprocessing.get_context("spawn"), initializer=_end_with_parent
            )
        waiting: deque[tuple[Task, Future[Result]]] = deque()
        try:
            for task in tasks:
                waiting.append((task, self._pool.submit(function, task)))
                if len(waiting) > 2 * self.count:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        except BrokenProcessPool:
            raise ChildProcessError(
                f"one of {self.count} worker processes was killed, possibly out of memory"
            ) from None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Make a worker exit once its parent has; Ctrl-C is handled by the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
