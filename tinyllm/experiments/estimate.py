"""Estimates the time of a training from some real steps on random tokens and some evaluation."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
from torch import Tensor

from tinyllm.compute import Compute, generator, set_up
from tinyllm.data.token_store import Tokens
from tinyllm.evaluation.scores import Scores, make_windows, score
from tinyllm.models.config import ModelConfig
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.train import Train
from tinyllm.training.dataset import Batches
from tinyllm.training.loop import train
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

SECONDS = 2.0  # time of the whole estimate, if a step is much shorter
SPLITS = 2  # splits that each evaluation scores
WINDOWS = 32  # windows scored to measure the time of one
FEWEST = 3  # steps: the first one also initialises
ENDLESS = 1 << 40  # steps


@dataclass(frozen=True)
class Estimate:
    """The cost of a training on this machine.

    Attributes:
        parameters: number of trained parameters.
        training: seconds of all steps.
        evaluating: seconds of all evaluations; None if they score whole splits, whose size is not
            known yet.
        checkpoint: size of a checkpoint in bytes.
    """

    parameters: int
    training: float
    evaluating: float | None
    checkpoint: int


class Enough(Exception):
    """Enough steps were timed."""


class Timer:
    """A watcher and saver that times each step and stops training after some time."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def step(self, step: int, values: dict[str, float]) -> None:
        del step, values

    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None:
        raise AssertionError((step, scores, best))

    def between_steps(self, state: TrainState) -> None:
        del state
        self.times.append(time.perf_counter())
        elapsed, steps = self.times[-1] - self.times[0], len(self.times) - 1
        if elapsed > 2 * SECONDS or (elapsed > SECONDS / 2 and steps >= FEWEST):
            raise Enough

    def seconds(self) -> float:
        """Seconds of the fastest step: other programs can only slow a step down."""
        return min(after - before for before, after in pairwise(self.times))


def estimate(config: ModelConfig, settings: Train, compute: Compute) -> Estimate:
    """Train a model of the real shape for about two seconds.

    The steps are those of one process, with its part of the batch, and not compiled.
    """
    set_up(compute.threads)
    model = TinyLLM(config, generator(0, "weights")).to(compute.device)
    model.compute_dtype = compute.dtype
    # Rates so small that random tokens can't make it diverge, and no evaluation.
    endless = settings.model_copy(
        update={"max_steps": ENDLESS, "eval_interval": ENDLESS, "learning_rate": 1e-9,
                "min_learning_rate": 0.0, "decay_steps": None, "patience": None}
    )  # fmt: skip
    state = TrainState(model, make_optimizer(model, endless), step=1)
    share = settings.batch_size // compute.world_size
    # A large model takes minutes for a batch: time one sequence first.
    alone = _step(state, endless.model_copy(update={"micro_batch_size": None}), 1)
    if alone * share < 2 * SECONDS:
        step = _step(state, endless, share)
    else:  # each further sequence costs less than the first, which pays for the optimizer too
        pair = _step(state, endless.model_copy(update={"micro_batch_size": None}), 2)
        step = alone + (share - 1) * max(pair - alone, 0.0)
    return Estimate(
        parameters=model.n_parameters,
        training=step * settings.max_steps,
        evaluating=_evaluating(state, settings, compute),
        checkpoint=_bytes(state, settings),
    )


def _step(state: TrainState, settings: Train, rows: int) -> float:
    """Seconds of a step with a number of sequences."""
    timer = Timer()
    try:
        train(state, _batches(state, rows), {}, settings, 0, timer, timer)
    except Enough:
        return timer.seconds()
    raise AssertionError("steps never end")


def _batches(state: TrainState, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    config = state.model.config
    tokens = _random(config, 4 * rows * (config.context_length + 1))
    batches = Batches(tokens, config.context_length, rows, 0)
    return (batches[step] for step in count())


def _evaluating(state: TrainState, settings: Train, compute: Compute) -> float | None:
    """Seconds of all evaluations: at step 0, at each interval and at the end."""
    if settings.eval_tokens is None:
        return None
    once = _scoring(state, 1)
    if once * WINDOWS < SECONDS:
        once = _scoring(state, WINDOWS) / WINDOWS
    evaluations = math.ceil(settings.max_steps / settings.eval_interval) + 1
    windows = max(1, settings.eval_tokens // settings.context_length)
    return once * windows * SPLITS * evaluations / compute.world_size


def _scoring(state: TrainState, count: int) -> float:
    """Seconds for scoring a number of windows."""
    config = state.model.config
    sizes = np.ones(config.vocab_size, dtype=np.int64)
    tokens = _random(config, count * config.context_length)
    windows = make_windows(tokens, sizes, 0, config.context_length)
    times = [time.perf_counter()]
    for _ in range(2):
        score(state.model, windows)
        times.append(time.perf_counter())
    return min(after - before for before, after in pairwise(times))


def _random(config: ModelConfig, size: int) -> Tokens:
    return np.random.default_rng(0).integers(config.vocab_size, size=size, dtype=np.uint32)


def _bytes(state: TrainState, settings: Train) -> int:
    """Size of a checkpoint in bytes; with `save: best` it includes the best weights."""
    best = 4 * state.model.n_parameters if settings.save == "best" else 0
    return best + sum(tensor.nbytes for tensor in state.tensors().values())
