"""The training loop learns, and the same settings always give the same weights."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import helpers
from tests.helpers import (
    ARITHMETICS,
    Arithmetic,
    Recorder,
    assert_same_weights,
    markov_tokens,
    random_ids,
    random_model,
    tiny_config,
    train_settings,
    windows_of,
)
from tinyllm.compute import generator
from tinyllm.data.token_store import Tokens
from tinyllm.evaluation.scores import score
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.train import Train
from tinyllm.training.dataset import Batches, loader
from tinyllm.training.distributed.processes import ALONE, Processes, SingleProcess
from tinyllm.training.loop import accumulate_gradient, clip_gradient, train
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.optimizers.schedules import learning_rate
from tinyllm.training.state import Best, TrainState

TRAIN, VALIDATION = markov_tokens(3000, seed=1), markov_tokens(400, seed=2)
pytestmark = pytest.mark.usefixtures("arithmetic")
# For tests that do not depend on the arithmetic.
any_arithmetic = pytest.mark.parametrize("arithmetic", ARITHMETICS[:1], ids=str, indirect=True)
NOISE = np.random.default_rng(1).integers(0, 61, 400).astype(np.uint16)


class Run:
    """A training, from initial to final weights."""

    def __init__(
        self,
        settings: Train,
        *,
        seed: int = 1,
        num_workers: int = 0,
        validation: Tokens = VALIDATION,
        processes: Processes = ALONE,
    ) -> None:
        self.settings = settings
        self.processes = processes
        self.seed = seed
        self.num_workers = num_workers
        self.validation = validation
        config = tiny_config(
            n_layer=settings.n_layer, n_head=settings.n_head, d_model=settings.d_model,
            context_length=settings.context_length, dropout=settings.dropout,
        )  # fmt: skip
        self.model = TinyLLM(config, generator(seed, "weights"))
        self.model.compute_dtype = helpers.DTYPE
        self.state = TrainState(self.model, make_optimizer(self.model, settings))
        self.seen = Recorder()

    @property
    def steps(self) -> list[dict[str, float]]:
        return self.state.history.steps.rows()

    @property
    def evaluations(self) -> list[dict[str, float]]:
        return self.state.history.evaluations.rows()

    @property
    def best(self) -> Best:
        return self.state.best

    def train(self) -> "Run":
        settings = self.settings
        data = Batches(TRAIN, settings.context_length, settings.batch_size, self.seed)
        first, last = self.state.step, settings.max_steps
        batches = loader(data, first, last, num_workers=self.num_workers, pin_memory=False)
        train(
            self.state,
            iter(batches),
            {"train": windows_of(TRAIN[:400]), "val": windows_of(self.validation)},
            settings,
            self.seed,
            self.seen,
            self.seen,
            self.processes,
        )
        return self


def run(seed: int = 1, num_workers: int = 0, **changes: Any) -> Run:
    return Run(train_settings(**changes), seed=seed, num_workers=num_workers).train()


# ----- it learns


def test_the_loss_falls_far_below_that_of_a_guess() -> None:
    ended = run(max_steps=150, eval_interval=50)
    losses = [row["val_loss"] for row in ended.evaluations]
    assert losses[0] == pytest.approx(math.log(61), abs=0.02)
    assert losses[-1] < 1.5 < losses[0] - 2  # the floor is 0.1 * ln(610) + 0.9 * ln(1 / 0.9) = 0.7


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimizer_learns(optimizer: str) -> None:
    rate = {"adamw": 0.01, "adam": 0.01, "sgd": 0.5}[optimizer]
    ended = run(optimizer=optimizer, learning_rate=rate, max_steps=40, weight_decay=0.0)
    assert ended.evaluations[-1]["val_loss"] < 3.5


def test_the_weights_are_fp32_in_any_precision() -> None:
    assert all(p.dtype == torch.float32 for p in run(max_steps=5).model.parameters())


# ----- the same bits


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_only_the_same_seed_ends_in_the_same_weights(dropout: float) -> None:
    one = run(dropout=dropout)
    torch.manual_seed(99)
    torch.rand(10)
    two = run(dropout=dropout)
    assert_same_weights(one.model, two.model)
    assert one.state.history == two.state.history
    other = run(dropout=dropout, seed=2).model.state_dict()
    assert all(not torch.equal(other[k], weight) for k, weight in one.model.state_dict().items())


class Second(SingleProcess):
    """A process that is not the first, with its own batch."""

    rank = 1


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_processes_differ_only_in_dropout(dropout: float) -> None:
    first, second = (
        Run(train_settings(dropout=dropout), processes=each).train() for each in (ALONE, Second())
    )
    assert (first.state.history == second.state.history) == (dropout == 0)


@any_arithmetic
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("eval_interval", [1, 5, 100])
def test_the_evaluation_interval_changes_no_weight(dropout: float, eval_interval: int) -> None:
    often = run(dropout=dropout, eval_interval=eval_interval)
    assert_same_weights(often.model, run(dropout=dropout, eval_interval=4).model)


@any_arithmetic
@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_workers_changes_no_weight(num_workers: int) -> None:
    assert_same_weights(run(num_workers=num_workers).model, run().model)


def test_micro_batches_change_rounding_only(arithmetic: Arithmetic) -> None:
    whole, pieces = run(max_steps=6), run(max_steps=6, micro_batch_size=2)
    for one, two in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        assert (one - two).norm() <= 10 * arithmetic.rounding * one.norm()
    assert whole.steps[0]["loss"] == pytest.approx(pieces.steps[0]["loss"], rel=arithmetic.rounding)


@any_arithmetic
@pytest.mark.parametrize(
    "change",
    [
        {"dropout": 0.1}, {"batch_size": 4}, {"optimizer": "adam"}, {"betas": [0.8, 0.95]},
        {"weight_decay": 0.0}, {"grad_clip": 0.1}, {"max_steps": 11}, {"learning_rate": 0.02},
        {"min_learning_rate": 0.001}, {"embedding_rate_multiplier": 2.0},
        {"warmup_steps": 3}, {"decay_steps": 8}, {"schedule": "linear"},
        {"schedule": "wsd"},
    ],
)  # fmt: skip
def test_each_setting_changes_the_weights(change: dict[str, Any]) -> None:
    base, changed = run().model.state_dict(), run(**change).model.state_dict()
    assert any(not torch.equal(weight, base[name]) for name, weight in changed.items())


# ----- the gradient


def whole_gradient(
    model: Model, inputs: Tensor, targets: Tensor, size: int | None
) -> tuple[float, Tensor]:
    """Loss and gradient of all weights, of one batch in micro-batches."""
    model.zero_grad()
    loss = accumulate_gradient(model, inputs, targets, size).item()
    return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("size", [1, 2, 3, 8, 100])
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    size: int, arithmetic: Arithmetic
) -> None:
    model = random_model().train()
    ids = random_ids(8, 17)
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    for row in range(8):  # from no target to all: a mean of means would be wrong
        targets[row, : 16 - 2 * row] = IGNORE
    expected_loss, expected = whole_gradient(model, inputs, targets, None)
    loss, gradient = whole_gradient(model, inputs, targets, size)
    assert loss == pytest.approx(expected_loss, rel=arithmetic.rounding)
    assert (gradient - expected).norm() <= arithmetic.rounding * expected.norm()
    # It is the gradient of the mean over the targets that are not IGNORE.
    model.zero_grad()
    counted = int((targets != IGNORE).sum())
    (model.loss(inputs, targets) / counted).backward()
    plain = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert (gradient - plain).norm() <= arithmetic.rounding * plain.norm()


def test_the_gradient_is_clipped_and_its_norm_recorded() -> None:
    model = random_model().train()
    ids = random_ids(8, 17)
    _, gradient = whole_gradient(model, ids[:, :-1], ids[:, 1:], None)
    norm = gradient.norm().item()
    assert clip_gradient(model, None).item() == pytest.approx(norm, rel=1e-5)
    assert clip_gradient(model, 2 * norm).item() == pytest.approx(norm, rel=1e-5)
    assert clip_gradient(model, norm / 4).item() == pytest.approx(norm, rel=1e-5)
    assert clip_gradient(model, None).item() == pytest.approx(norm / 4, rel=1e-4)


# ----- what is recorded and kept


@any_arithmetic
def test_measurements_are_recorded_as_they_happen() -> None:
    ended = run(max_steps=10, eval_interval=4)
    assert [step for step, _ in ended.seen.steps] == list(range(10))
    assert [step for step, _, _ in ended.seen.evaluations] == [0, 4, 8, 10]
    assert ended.steps == [{"step": step, **values} for step, values in ended.seen.steps]
    for row in ended.steps:
        assert row["learning_rate"] == learning_rate(int(row["step"]), ended.settings)
        assert 0 < row["loss"] < 5 and row["grad_norm"] > 0
    for row, (step, scores, _) in zip(ended.evaluations, ended.seen.evaluations, strict=True):
        assert row["step"] == step
        assert row["val_bits_per_byte"] == scores["val"].bits_per_byte
        assert row["train_loss"] == scores["train"].loss


@any_arithmetic
def test_the_best_or_the_last_weights_are_saved() -> None:
    # Training and validation text have nothing in common, so training increases the validation
    # loss.
    for save in ("best", "last"):
        ended = Run(train_settings(save=save, max_steps=40, eval_interval=5), validation=NOISE)
        ended.train()
        losses = {row["step"]: row["val_loss"] for row in ended.evaluations}
        assert ended.best.step == min(losses, key=lambda step: losses[step]) < 40
        assert ended.best.loss == losses[ended.best.step]
        left = score(ended.model, windows_of(NOISE), ended.settings.batch_size).loss
        assert left == losses[ended.best.step if save == "best" else 40]
        improved = [step for step, _, best in ended.seen.evaluations if best]
        assert improved[-1] == ended.best.step


@any_arithmetic
def test_training_without_improvement_ends_early() -> None:
    still: dict[str, Any] = {"learning_rate": 1e-30, "min_learning_rate": 0.0, "max_steps": 100}
    for patience, interval in [(1, 10), (3, 7)]:
        ended = run(**still, patience=patience, eval_interval=interval)
        assert len(ended.steps) == patience * interval
        assert ended.best.step == 0
        assert ended.evaluations[-1]["step"] == patience * interval
    assert len(run(**still, patience=None, eval_interval=10).steps) == 100


@any_arithmetic
def test_stale_evaluations_count_from_the_last_improvement() -> None:
    model = random_model()
    state = TrainState(model, make_optimizer(model, train_settings()))
    stale = []
    for step, loss in enumerate([3.0, 3.0, 4.0, 2.0, 2.5, 1.9]):
        state.step = step
        improved = state.observe(loss, keep_weights=False)
        assert improved == (state.best.step == step)
        stale.append(state.best.stale_evaluations)
    assert stale == [0, 1, 2, 0, 1, 0]
    assert (state.best.step, state.best.loss) == (5, 1.9)


@any_arithmetic
def test_patience_counts_from_the_last_improvement() -> None:
    ended = Run(
        train_settings(patience=3, max_steps=200, eval_interval=2, warmup_steps=0), validation=NOISE
    ).train()
    assert len(ended.steps) == ended.best.step + 3 * 2 < 200


@any_arithmetic
def test_training_mode_is_kept_through_evaluations() -> None:
    one = run(dropout=0.5, eval_interval=1)
    assert one.model.training
    assert not math.isclose(one.steps[-1]["loss"], run(dropout=0.0).steps[-1]["loss"], rel_tol=1e-3)


# ----- divergence


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nan_gradient_stops_training_before_it_changes_a_weight(
    value: float,
) -> None:
    ended = Run(train_settings(grad_clip=None))

    def plant(gradient: Tensor) -> Tensor:
        if len(ended.seen.steps) < 7:
            return gradient
        return gradient.index_fill(0, torch.tensor([3]), value)

    ended.model.head_weight.register_hook(plant)
    with pytest.raises(ValueError, match=r"^training diverged at step 7: .*train\.learning_rate"):
        ended.train()
    # The weights are those after seven steps of the same schedule.
    seven = ended.settings.resolve().model_copy(update={"max_steps": 7})
    assert_same_weights(ended.model, Run(seven).train().model)


def test_divergence_from_a_huge_learning_rate_is_reported() -> None:
    with pytest.raises(ValueError, match="training diverged"):
        run(learning_rate=1e30, grad_clip=None, max_steps=50)


@pytest.mark.parametrize("save", ["best", "last"])
def test_a_last_step_that_makes_weights_nan_is_reported(save: str) -> None:
    ended = Run(train_settings(learning_rate=1e39, warmup_steps=0, max_steps=1, save=save))
    with pytest.raises(ValueError, match="training diverged"):
        ended.train()
