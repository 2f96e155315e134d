"""The training loop."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tinyllm.evaluation import Scores, Windows, score
from tinyllm.kernels import IGNORE
from tinyllm.model import TinyLLM
from tinyllm.params import Train
from tinyllm.runtime import derive_seed
from tinyllm.training.history import VALIDATION, History
from tinyllm.training.schedule import learning_rate


class Watcher(Protocol):
    """Is told what happens; nothing it does changes the result."""

    def step(self, step: int, values: dict[str, float]) -> None: ...
    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None: ...


@dataclass
class Best:
    """The weights of the lowest validation loss so far, and when that was."""

    step: int = -1
    loss: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)
    stale_evaluations: int = 0


def train(
    model: TinyLLM,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    evaluation: dict[str, Windows],
    settings: Train,
    seed: int,
    watcher: Watcher,
) -> tuple[History, Best]:
    """Train a model in place.

    Args:
        batches: (inputs, targets), each (B, T), of every step in order.
        evaluation: windows of the training and of the validation split to score now and then.

    Returns:
        what was measured, and the best weights. With `save: best` the model ends with those.

    Raises:
        ValueError: a loss or the gradient is no longer a finite number. Of a training loss and a
            gradient, the model is as it was before the step that would have spoilt it.
    """
    history, best = History(), Best()
    batch = iter(batches)
    for step in range(settings.max_steps + 1):
        last = step == settings.max_steps
        if last or step % settings.eval_interval == 0:
            scores = {
                split: score(model, w, settings.batch_size) for split, w in evaluation.items()
            }
            demand_finite(step, validation_loss=scores[VALIDATION].loss)
            history.add_evaluation(step, scores)
            improved = keep_best(best, model, step, scores[VALIDATION].loss)
            watcher.evaluation(step, scores, improved)
            if last or (settings.patience and best.stale_evaluations >= settings.patience):
                break

        rate = learning_rate(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(derive_seed(seed, "dropout", step))  # nothing else draws from it
        loss = accumulate_gradient(model, *next(batch), settings.micro_batch_size)
        grad_norm = clip_gradient(model, settings.grad_clip)
        demand_finite(step, loss=loss, gradient_norm=grad_norm)
        optimizer.step()
        optimizer.zero_grad()

        values = {"loss": loss, "learning_rate": rate, "grad_norm": grad_norm}
        history.add_step(step, values)
        watcher.step(step, values)

    if settings.save == "best":
        model.load_state_dict(best.weights)
    return history, best


def accumulate_gradient(
    model: TinyLLM, inputs: Tensor, targets: Tensor, micro_batch_size: int | None
) -> float:
    """Add the gradient of a batch's mean loss, a micro-batch at a time.

    Each micro-batch counts by its number of targets: the mean of means would be wrong when some are
    ignored (https://github.com/huggingface/transformers/issues/34191).

    Returns:
        the mean loss, nats a token.
    """
    device = model.embedding.weight.device
    n_targets = int((targets != IGNORE).sum())
    total = torch.zeros((), device=device)
    size = micro_batch_size or len(inputs)
    for i, t in zip(inputs.split(size), targets.split(size), strict=True):
        i, t = i.to(device, non_blocking=True), t.to(device, non_blocking=True)
        loss = model.loss(i, t) / n_targets
        loss.backward()
        total += loss.detach()
    return total.item()


def clip_gradient(model: TinyLLM, limit: float | None) -> float:
    """Scale the gradient so that its global norm is at most `limit`. Returns the norm before."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf).item()


def demand_finite(step: int, **measured: float) -> None:
    """Stop a training that diverged.

    Raises:
        ValueError: a measurement is infinite or not a number.
    """
    if not all(map(math.isfinite, measured.values())):
        shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured.items())
        raise ValueError(
            f"training diverged at step {step}: {shown}; "
            "lower train.learning_rate, lengthen train.warmup_steps or set train.grad_clip"
        )


def keep_best(best: Best, model: TinyLLM, step: int, loss: float) -> bool:
    """Keep a copy of the weights if they are the best so far. Returns whether they are."""
    if loss >= best.loss:
        best.stale_evaluations += 1
        return False
    best.step, best.loss, best.stale_evaluations = step, loss, 0
    best.weights = copy.deepcopy(model.state_dict())
    return True
