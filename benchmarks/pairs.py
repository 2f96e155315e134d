"""Comparing two programs that take turns, each in its own process.

A machine's speed drifts, because of other work, heat, or neighbours on the same host. The ratio of
two speeds measured side by side is reliable where a single one is not.
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

ERROR_LINES = 15  # shown of a failed worker


@dataclass(frozen=True)
class Comparison:
    """Two speeds, ours and a peer's, in the same unit; higher is better.

    Attributes:
        ours, peer: medians over the rounds.
        ratio: median of the rounds' ratios, ours to the peer's.
        low, high: lower and upper quartile of the ratios.
        our_peak, peer_peak: peak of resident memory in bytes.
    """

    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    our_peak: float
    peer_peak: float


class Worker:
    """A process that does a round of work for each line it receives (see `serve`)."""

    def __init__(self, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self._process = process
        self._errors = errors  # its standard error
        assert process.stdout is not None and process.stdin is not None
        self._in, self._out = process.stdin, process.stdout
        self.peak = 0.0  # bytes of resident memory

    def round(self) -> float:
        """Run one round of work.

        Returns:
            The speed.

        Raises:
            ChildProcessError: the process exited.
        """
        with suppress(BrokenPipeError):  # the reason is reported below
            self._in.write("\n")
            self._in.flush()
        for line in self._out:
            if line.startswith("["):  # peers may print other things
                speed, self.peak = json.loads(line)
                return float(speed)
        raise ChildProcessError(self._ending())

    def _ending(self) -> str:
        """How the process exited: its status or signal, and the last lines of its errors."""
        status = self._process.wait()
        how = f"exited with status {status}"
        if status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-ERROR_LINES:]
        command = shlex.join(map(str, self._process.args))  # type: ignore[arg-type]
        return "\n".join([f"{command} {how}", *(last or ["(it wrote no error)"])])


@contextmanager
def worker(module: str, *arguments: object) -> Iterator[Worker]:
    """Start `python -m benchmarks.workers.MODULE`, and end it with the context."""
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
    """Compare two workers, each given as module and arguments, that take turns."""
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
    """Answer each line on standard input with the speed of a round and the peak memory."""
    for _ in sys.stdin:
        answer(work())


class Rounds:
    """Serves rounds from within a loop that calls it after each step, and pauses it in between.

    Args:
        tokens: tokens per step.
        steps: steps per round.
    """

    def __init__(self, tokens: int, steps: int) -> None:
        self.tokens, self.steps = tokens, steps
        self._first: int | None = None
        self._started = 0.0

    def after(self, step: int) -> None:
        """Call this after each step, with its number."""
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
    """Send the result of a round to `Worker.round`."""
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    print(json.dumps([speed, peak]), flush=True)
