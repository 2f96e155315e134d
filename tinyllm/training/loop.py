"""The training loop."""

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from tinyllm.compute import derive_seed
from tinyllm.evaluation.scores import Scores, Windows
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model
from tinyllm.settings.train import Train
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.distributed.shared_scoring import score
from tinyllm.training.history import VALIDATION
from tinyllm.training.optimizers.schedules import learning_rate
from tinyllm.training.state import TrainState


class Watcher(Protocol):
    """Receives every step and evaluation; cannot change the result."""

    def step(self, step: int, values: dict[str, float]) -> None: ...
    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None: ...


class Saver(Protocol):
    """Saves the state between two steps, and may stop training there."""

    def between_steps(self, state: TrainState) -> None: ...


def train(
    state: TrainState,
    batches: Iterator[tuple[Tensor, Tensor]],
    evaluation: dict[str, Windows],
    settings: Train,
    seed: int,
    watcher: Watcher,
    saver: Saver,
    processes: Processes = ALONE,
) -> None:
    """Train the state's model in place until the last step.

    With `save: best`, the model ends with the weights of the lowest validation loss.

    Args:
        batches: (inputs, targets), this rank's rows, for every step from `state.step` on.
        evaluation: windows of the training and the validation split, scored at each evaluation.
        processes: the processes that train together; each calls this function.

    Raises:
        ValueError: a loss or the gradient is not finite. For a training loss or a gradient, the
            state is left as it was before that step.
    """
    model, optimizer = state.model, state.optimizer
    while not state.finished:
        step = state.step
        last = step == settings.max_steps
        if last or step % settings.eval_interval == 0:
            scores = {split: score(model, w, processes) for split, w in evaluation.items()}
            demand_finite(step, validation_loss=scores[VALIDATION].loss)
            state.history.add_evaluation(step, scores)
            improved = state.observe(scores[VALIDATION].loss, keep_weights=settings.save == "best")
            watcher.evaluation(step, scores, improved)
            if last or (settings.patience and state.best.stale_evaluations >= settings.patience):
                break

        rate = learning_rate(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate_multiplier"]
        # Only dropout draws from torch's global generator.
        torch.manual_seed(derive_seed(seed, processes.owner("dropout"), step))
        share = accumulate_gradient(model, *next(batches), settings.micro_batch_size, processes)
        norm = clip_gradient(model, settings.grad_clip, processes)
        loss, grad_norm = read(share, norm, processes)
        demand_finite(step, loss=loss, gradient_norm=grad_norm)
        optimizer.step()
        optimizer.zero_grad()

        values = {"loss": loss, "learning_rate": rate, "grad_norm": grad_norm}
        state.history.add_step(step, values)
        state.step += 1
        watcher.step(step, values)
        saver.between_steps(state)

    state.finished = True
    if settings.save == "best":
        model.load_state_dict(state.best.weights)


def accumulate_gradient(
    model: Model, inputs: Tensor, targets: Tensor, micro_batch_size: int | None,
    processes: Processes = ALONE,
) -> Tensor:  # fmt: skip
    """Add the gradient of the mean loss over all ranks' rows, one micro-batch at a time.

    Each micro-batch and each rank is weighted by its number of targets: a mean of means is wrong
    when some targets are ignored (https://github.com/huggingface/transformers/issues/34191).

    Returns:
        This rank's share of the mean loss in nats per token; the shares of all ranks add up to it.
    """
    device = model.device
    (n_targets,) = processes.sum(int((targets != IGNORE).sum()))
    total = torch.zeros((), device=device)
    size = micro_batch_size or len(inputs)
    for first in range(0, len(inputs), size):
        i, t = inputs[first : first + size], targets[first : first + size]
        i, t = i.to(device, non_blocking=True), t.to(device, non_blocking=True)
        with processes.summing(last=first + size >= len(inputs)):
            loss = processes.loss(model, i, t) / n_targets
            processes.backward(loss)
        total += loss.detach()
    return total


def clip_gradient(model: Model, limit: float | None, processes: Processes = ALONE) -> Tensor:
    """Scale the gradient to a global norm of at most `limit`. Returns the norm before scaling."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf)
    return processes.whole(norm)


def read(share: Tensor, norm: Tensor, processes: Processes) -> tuple[float, float]:
    """Read the loss of all processes and the gradient's norm; the step's only wait for a GPU."""
    own, grad_norm = torch.stack((share, norm)).tolist()
    (loss,) = processes.sum(own)
    return loss, grad_norm


def demand_finite(step: int, **measured: float) -> None:
    """Stop a training that has diverged.

    Raises:
        ValueError: a measurement is infinite or NaN.
    """
    if not all(map(math.isfinite, measured.values())):
        shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured.items())
        raise ValueError(
            f"training diverged at step {step}: {shown}; "
            "lower train.learning_rate, lengthen train.warmup_steps or set train.grad_clip"
        )
