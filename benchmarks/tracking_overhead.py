"""Measure how much tracking slows down training, at steps of 15 ms.

python -m benchmarks.tracking_overhead [--pairs 200]

Prints two tables: the time that the loop spends on MLflow's journal, the terminal and the resource
reader; and alternating blocks of steps with and without MLflow, with the follower process stopped
in those without. The result is the median of the ratios of neighbouring blocks, so that the
machine's load, which changes slowly, cancels out.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch

from tinyllm.evaluation.scores import Scores
from tinyllm.settings.runtime import Runtime
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.origin import Origin
from tinyllm.training.display.progress import Progress
from tinyllm.training.display.record import Record
from tinyllm.training.display.resources import Resources
from tinyllm.training.display.watch import Watch
from tinyllm.training.history import TRAIN, VALIDATION

STEP = 0.015  # seconds
BLOCK = 0.3  # seconds
EVAL_INTERVAL = 250  # steps, as in params.yaml
VALUES = {"loss": 2.345678901234567, "learning_rate": 0.002345678901234567, "grad_norm": 0.56789}
SCORES = {
    split: Scores(loss=2.3, bits_per_byte=1.3, accuracy=0.5, tokens=131072)
    for split in (TRAIN, VALIDATION)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200, help="pairs of blocks of 0.3 s")
    pairs = parser.parse_args().pairs
    with scratch_project():
        in_the_loop()
        print()
        for name, value in beside_the_loop(pairs).items():
            print(f"{name:<36}{value}")


@contextlib.contextmanager
def scratch_project() -> Iterator[None]:
    """Write journals and runs to a temporary folder."""
    with tempfile.TemporaryDirectory() as project:
        os.environ |= {"TINYLLM_ROOT": project, "MLFLOW_TRACKING_URI": ""}
        yield
        del os.environ["TINYLLM_ROOT"], os.environ["MLFLOW_TRACKING_URI"]


def watching(tracker: str) -> tuple[Journal, Watch]:
    """A watcher as in `train`."""
    settings = Runtime(
        num_workers=0,
        pin_memory=False,
        tracker="mlflow" if tracker == "mlflow" else "none",
        experiment="benchmark",
        checkpoint_steps=None,
        checkpoint_minutes=None,
        resource_interval=10.0,
        download_timeout=30.0,
        download_retries=5,
    )
    journal = Journal(Header(stage="train", name="benchmark"), settings)
    record = Record(journal, Origin())
    return journal, Watch(record, Progress(1000, 0, 2048), Resources(settings.resource_interval))


def in_the_loop() -> None:
    """Time the calls that the training loop makes."""
    print(f"{'in the loop':<14}{'step':>12}{'evaluation':>14}{'share of 15 ms':>18}")
    for tracker in ("mlflow", "none"):
        journal, watch = watching(tracker)
        with journal, contextlib.redirect_stdout(io.StringIO()):
            step = typical(lambda i, to: to.step(i, VALUES), watch, 500)
            evaluation = typical(lambda i, to: to.evaluation(i, SCORES, best=False), watch, 50)
        share = (step + evaluation / EVAL_INTERVAL) / STEP
        print(f"{tracker:<14}{step * 1e6:>9.1f} us{evaluation * 1e6:>11.1f} us{share:>17.3%}")


def typical(call: Callable[[int, Watch], None], watch: Watch, calls: int) -> float:
    """Median over blocks of calls of the mean seconds per call."""
    means = []
    for _ in range(20):
        started = time.perf_counter()
        for i in range(calls):
            call(i, watch)
        means.append((time.perf_counter() - started) / calls)
    return statistics.median(means)


def beside_the_loop(pairs: int) -> dict[str, str]:
    """Compare steps of a fixed amount of work with and without MLflow. Returns figures by name."""
    work = workload()
    before = set(psutil.Process().children())
    with_mlflow, without = watching("mlflow"), watching("none")
    (follower,) = set(psutil.Process().children()) - before
    with with_mlflow[0], without[0], contextlib.redirect_stdout(io.StringIO()):
        block(work, with_mlflow[1])
        wait_for_the_first_batch(with_mlflow[0].folder)
        started, steps, ratios, medians = sum(follower.cpu_times()[:2]), 0, [], []
        for pair in range(pairs):
            seconds: dict[bool, float] = {}
            for tracked in (True, False) if pair % 2 else (False, True):
                (follower.resume if tracked else follower.suspend)()
                done, seconds[tracked] = block(work, (with_mlflow if tracked else without)[1])
                steps += done * tracked
            follower.resume()
            ratios.append(seconds[True] / seconds[False])
            medians.append(seconds[False])
        sent = sum(follower.cpu_times()[:2]) - started
    low, middle, high = median_with_limits(ratios)
    return {
        "beside the loop": f"{pairs} pairs of blocks of {BLOCK} s",
        "a step without MLflow": f"{statistics.median(medians) * 1e3:.2f} ms",
        "step with MLflow / without": f"{middle:.4f} (95 %: {low:.4f} to {high:.4f})",
        "follower, to start": f"{started:.1f} s of CPU",
        "follower, for each step": f"{sent / max(1, steps) * 1e3:.3f} ms of CPU",
    }


def median_with_limits(values: list[float]) -> tuple[float, float, float]:
    """The median between the limits of its 95 % confidence interval."""
    values = sorted(values)
    half = 0.98 * len(values) ** 0.5  # 1.96 standard deviations of a fair coin's count
    first, last = int(len(values) / 2 - half), int(len(values) / 2 + half)
    return values[max(0, first)], statistics.median(values), values[min(last, len(values) - 1)]


def workload() -> Callable[[], None]:
    """Make matrix products that take about as long as a step, on all threads."""
    a = torch.randn(384, 384)

    def multiply(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            torch.tanh(a @ a)
        return time.perf_counter() - started

    multiply(50)
    times = max(1, round(STEP / min(multiply(20) / 20 for _ in range(20))))

    def work() -> None:
        multiply(times)

    return work


def block(work: Callable[[], None], watch: Watch) -> tuple[int, float]:
    """Train for a while. Returns the number of steps, and the mean seconds per step."""
    started = time.perf_counter()
    steps = 0
    while time.perf_counter() - started < BLOCK:
        work()
        watch.step(steps, VALUES)
        steps += 1
    return steps, (time.perf_counter() - started) / steps


def wait_for_the_first_batch(journal: Path) -> None:
    """Wait until MLflow has started and created its database, which is not measured."""
    deadline = time.monotonic() + 120
    while not (journal / "sent.json").exists():
        if time.monotonic() > deadline:
            raise TimeoutError((journal / "follower.log").read_text())
        time.sleep(0.1)


if __name__ == "__main__":
    main()
