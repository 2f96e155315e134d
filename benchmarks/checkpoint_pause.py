"""Measure how much a checkpoint slows down the training of a model with 2.5 M parameters.

python -m benchmarks.checkpoint_pause [--pairs 30] [--threads 2]

Alternates blocks of steps with a save after the first step and blocks without one. The pause is the
time that training waits for the call; the cost is how much longer the block takes, including what
the background write takes from the steps. Each cost is the difference of two neighbouring blocks,
so that the machine's load, which changes slowly, cancels out. Prints medians, and their share of
training at the interval in params.yaml.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from tinyllm.common.fingerprint import Fingerprint
from tinyllm.compute import Compute, choose, generator, set_up
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.load import load_params
from tinyllm.training.checkpoints.checkpoint import Checkpoints
from tinyllm.training.data import model_config
from tinyllm.training.loop import accumulate_gradient, clip_gradient
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"
BLOCK = 1.0  # seconds: longer than a write


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=30, help="pairs of blocks of about 1 s")
    parser.add_argument("--threads", type=int, help="CPU threads; default: all")
    args = parser.parse_args()
    params = load_params(PARAMS)
    threads = {"threads": args.threads, "device": "cpu"}
    compute = choose(params.hardware.model_copy(update=threads))
    set_up(compute.threads)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Checkpoints(Path(folder), Fingerprint({}), compute), compute)
        training.block(saved=True)
        training.steps_in_a_block = round(BLOCK / statistics.median(training.steps)) + 1
        pauses, costs = [], []
        for pair in range(args.pairs):
            seconds = {}
            for saved in (True, False) if pair % 2 else (False, True):
                seconds[saved] = training.block(saved)
            pauses.append(training.pause)
            costs.append(seconds[True] - seconds[False])
        written = statistics.median(training.write() for _ in range(5))
    assert params.runtime.checkpoint_minutes is not None
    interval = 60 * params.runtime.checkpoint_minutes
    pause, cost = statistics.median(pauses), statistics.median(costs)
    print(f"{compute.device_name}, {compute.precision}, {compute.threads} threads")
    print(f"{'parameters':<34}{training.state.model.n_parameters:>12,}")
    print(f"{'a step':<34}{statistics.median(training.steps) * 1e3:>9.1f} ms")
    print(f"{'a save: training waits':<34}{pause * 1e3:>9.1f} ms (most {max(pauses) * 1e3:.1f})")
    print(f"{'a save: until it is on disk':<34}{written * 1e3:>9.1f} ms")
    print(f"{'a save: training takes longer by':<34}{cost * 1e3:>9.1f} ms")
    print(f"{f'share, every {interval:.0f} s':<34}{max(pause, cost) / interval:>11.3%}")


class Training:
    """Steps of the default training on a larger model, with everything that a checkpoint saves."""

    def __init__(self, checkpoints: Checkpoints, compute: Compute) -> None:
        params = load_params(PARAMS)
        settings = params.train
        changes = {"n_layer": 4, "n_head": 4, "d_model": 192}
        shape = model_config(settings.model_copy(update=changes), vocab_size=2048, end_of_text=2047)
        model = TinyLLM(shape, generator(1, "weights"))
        model.compute_dtype = compute.dtype
        self.checkpoints = checkpoints
        self.state = TrainState(model, make_optimizer(model, settings))
        self.state.observe(5.0, keep_weights=True)
        for step in range(settings.max_steps):
            values = {"loss": 1.0, "learning_rate": 1e-3, "grad_norm": 1.0}
            self.state.history.add_step(step, values)
        shape_of_batch = (settings.batch_size, settings.context_length)
        self.batch = torch.randint(shape.vocab_size, shape_of_batch)
        self.steps: list[float] = []
        self.steps_in_a_block = 10
        self.pause = 0.0  # seconds, of the last save

    def step(self) -> None:
        started = time.perf_counter()
        accumulate_gradient(self.state.model, self.batch, self.batch, None)
        clip_gradient(self.state.model, 1.0)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad()
        self.state.step += 1
        self.steps.append(time.perf_counter() - started)

    def block(self, saved: bool) -> float:
        """Train for some steps, with or without a save. Returns the seconds."""
        self.step()
        started = time.perf_counter()
        if saved:
            self.checkpoints.save(self.state)
            self.pause = time.perf_counter() - started
        for _ in range(self.steps_in_a_block):
            self.step()
        elapsed = time.perf_counter() - started
        self.checkpoints.wait()
        return elapsed

    def write(self) -> float:
        """Save without training. Returns the seconds until the checkpoint is on disk."""
        started = time.perf_counter()
        self.checkpoints.save(self.state, wait=True)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
