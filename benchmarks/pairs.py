"""Two programs, each in a process of its own, that take turns and so meet the same machine.

A machine's speed drifts: other work, heat, neighbours on the same host. A figure alone says little;
the ratio of two that were measured side by side does.
"""

import json
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO

ERROR_LINES = 15  # of a worker that ended, to show


@dataclass(frozen=True)
class Comparison:
    """Two speeds, ours and a peer's, in the same unit, higher is better.

    Attributes:
        ours, peer: medians over the rounds.
        ratio: median of the rounds' own ratios, ours to the peer's.
        low, high: the quarter of the rounds below and above.
        our_peak, peer_peak: of resident memory, in bytes.
    """

    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    our_peak: float
    peer_peak: float


class Worker:
    """A process that does a round of work for each line it is sent (see `serve`)."""

    def __init__(self, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self._process = process
        self._errors = errors  # what it wrote to standard error
        assert process.stdout is not None and process.stdin is not None
        self._in, self._out = process.stdin, process.stdout
        self.peak = 0.0  # bytes of resident memory

    def round(self) -> float:
        """Let it work once.

        Returns:
            its speed.

        Raises:
            ChildProcessError: it ended instead.
        """
        with suppress(BrokenPipeError):  # why it ended is found below
            self._in.write("\n")
            self._in.flush()
        for line in self._out:
            if line.startswith("["):  # peers may print other things
                speed, self.peak = json.loads(line)
                return float(speed)
        raise ChildProcessError(self._ending())

    def _ending(self) -> str:
        """How and why it ended: its status or signal, and the last lines of its errors."""
        status = self._process.wait()
        how = f"with status {status}"
        if status < 0:
            how = f"by {signal.Signals(-status).name}"
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-ERROR_LINES:]
        command = shlex.join(map(str, self._process.args))  # type: ignore[arg-type]
        return "\n".join([f"{command} ended {how}", *(last or ["(it wrote no error)"])])


@contextmanager
def worker(module: str, *arguments: object) -> Iterator[Worker]:
    """Start `python -m benchmarks.workers.MODULE`; it is ended with the context."""
    command = [sys.executable, "-m", f"benchmarks.workers.{module}", *map(str, arguments)]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            yield Worker(process, errors)
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # a line that was not read
                process.communicate()


def alternate(ours: tuple[object, ...], peer: tuple[object, ...], rounds: int) -> Comparison:
    """Compare two workers, each given as module and arguments, over rounds in turn."""
    with ExitStack() as stack:
        a, b = (stack.enter_context(worker(str(m), *args)) for m, *args in (ours, peer))
        a.round(), b.round()  # warm up
        pairs = []
        for number in range(rounds):
            first, second = (a, b) if number % 2 else (b, a)
            speeds = {first: first.round(), second: second.round()}
            pairs.append((speeds[a], speeds[b]))
    ratios = [x / y for x, y in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return Comparison(
        statistics.median(x for x, _ in pairs),
        statistics.median(y for _, y in pairs),
        middle, low, high, a.peak, b.peak,
    )  # fmt: skip


def serve(work: Callable[[], float]) -> None:
    """Answer each line of standard input with the speed of a round of work and the peak memory."""
    for _ in sys.stdin:
        answer(work())


class Rounds:
    """Answers for a loop that calls it after each step, and holds it between two rounds.

    Args:
        tokens: in a step.
        steps: in a round.
    """

    def __init__(self, tokens: int, steps: int) -> None:
        self.tokens, self.steps = tokens, steps
        self._first: int | None = None
        self._started = 0.0

    def after(self, step: int) -> None:
        """To be called after each step, with a number that goes up by one."""
        if self._first is None:
            self._first = step
        done = step - self._first
        if done % self.steps:
            return
        if done:
            answer(self.tokens * self.steps / (time.perf_counter() - self._started))
        input()
        self._started = time.perf_counter()


def answer(speed: float) -> None:
    """Tell the other side of `Worker.round`."""
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    print(json.dumps([speed, peak]), flush=True)
