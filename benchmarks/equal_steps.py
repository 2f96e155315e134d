"""Compares settings of `train` at equal steps, on data that the pipeline has prepared.

The trainings take turns, step by step, so that their times are comparable on a busy machine. Prints
for each variant the test split's bits per byte, with the spread over the seeds, and the time of a
step as a multiple of the first variant's. A variant is a folder that has data/ and reports/ of the
pipeline, and changes to params.yaml's section `train`:

    python -m benchmarks.equal_steps --seeds 1 2 3 --set max_steps=600 \
        --variant . document_mask=false --variant . document_mask=true
"""

import argparse
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks.trainings import settings, train_and_score
from benchmarks.workers.tinyllm import Silent
from tinyllm.training.state import TrainState


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--variant", nargs="+", action="append", required=True,
                         metavar=("FOLDER", "key=value"))  # fmt: skip
    options.add_argument("--set", nargs="*", default=[], metavar="key=value", help="for all")
    options.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options.add_argument("--threads", type=int, help="null by default: see hardware.threads")
    args = options.parse_args()
    variants = [
        Variant(Path(folder), args.set + changes, args.threads) for folder, *changes in args.variant
    ]
    for seed in args.seeds:
        turns = Turns(len(variants))
        threads = [
            threading.Thread(target=variant.train, args=(seed, turns, number))
            for number, variant in enumerate(variants)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"seed {seed}:", *(f"{v.scores[-1]:.4f}" for v in variants), flush=True)
    first = variants[0]
    for variant in variants:
        pairs = zip(variant.seconds, first.seconds, strict=False)
        ratio = statistics.median(own / other for own, other in pairs)
        spread = statistics.stdev(variant.scores) if len(variant.scores) > 1 else 0.0
        print(
            f"{statistics.mean(variant.scores):.4f} ± {spread:.4f} bits/byte, "
            f"{ratio:.3f} of the first's step time: {variant.folder} {' '.join(variant.changes)}"
        )


class Turns:
    """Lets threads run one after the other."""

    def __init__(self, count: int) -> None:
        self._current, self._active = 0, list(range(count))
        self._changed = threading.Condition()

    def wait_for(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._current == number)

    def pass_on(self, number: int, last: bool = False) -> None:
        with self._changed:
            place = self._active.index(number)
            self._current = self._active[(place + 1) % len(self._active)]
            if last:
                self._active.remove(number)
            self._changed.notify_all()


@dataclass
class Variant:
    """A training's data and settings, and what it measured."""

    folder: Path
    changes: list[str]
    threads: int | None
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def train(self, seed: int, turns: Turns, number: int) -> None:
        turns.wait_for(number)
        changes = {key: yaml.safe_load(v) for key, v in (c.split("=", 1) for c in self.changes)}
        params = settings(changes, seed, self.threads)
        pace = Pace(turns, number, self.seconds)
        self.scores.append(train_and_score(params, self.folder, pace).bits_per_byte)
        turns.pass_on(number, last=True)


class Pace(Silent):
    """Times each step, and then lets the other trainings do theirs."""

    def __init__(self, turns: Turns, number: int, seconds: list[float]) -> None:
        self.turns, self.number, self.seconds = turns, number, seconds
        self.started = time.perf_counter()

    def between_steps(self, state: TrainState) -> None:
        del state
        self.seconds.append(time.perf_counter() - self.started)
        self.turns.pass_on(self.number)
        self.turns.wait_for(self.number)
        self.started = time.perf_counter()


if __name__ == "__main__":
    main()
