"""Scores of a model on tokens it was not trained on: loss, perplexity, bits per byte, accuracy.

They involve no random numbers.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tinyllm.data.token_store import Tokens
from tinyllm.generation.network import for_inference
from tinyllm.models.config import IGNORE
from tinyllm.models.cpu_kernels import LOGITS_AT_ONCE
from tinyllm.models.model import Model

# Tokens per pass: on a CPU few enough to stay in its cache (docs/log.md), on a GPU many.
TOKENS_AT_ONCE = {"cpu": 1 << 10}
TOKENS_AT_ONCE_ELSEWHERE = 1 << 15

MEASURES = ("loss", "perplexity", "bits_per_byte", "accuracy")


@dataclass(frozen=True)
class Windows:
    """Fixed windows over a token array: inputs and targets, each (N, T) int64.

    Targets that are not scored are IGNORE. `n_bytes` is the size of the other targets' text.
    """

    inputs: Tensor
    targets: Tensor
    n_bytes: int


@dataclass(frozen=True)
class Scores:
    """A model's scores on some windows.

    Attributes:
        loss: mean cross-entropy in nats per token.
        bits_per_byte: total bits over total bytes of text; comparable between vocabularies.
        accuracy: fraction of tokens that the model considered most likely.
        tokens: number of scored tokens.
    """

    loss: float
    bits_per_byte: float
    accuracy: float
    tokens: int

    @classmethod
    def of(cls, n_bytes: int, nats: float, right: float, tokens: float) -> "Scores":
        """Make scores from sums over some tokens.

        Args:
            n_bytes: size of their text in bytes.
            nats: sum of their cross-entropies.
            right: number of tokens that the model considered most likely.
            tokens: number of tokens.
        """
        return cls(
            loss=nats / tokens,
            bits_per_byte=nats / math.log(2) / max(1, n_bytes),
            accuracy=right / tokens,
            tokens=int(tokens),
        )

    @property
    def perplexity(self) -> float:
        """exp(loss), in tokens; infinite if that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def as_dict(self) -> dict[str, float]:
        """The four measures by name."""
        return {name: getattr(self, name) for name in MEASURES}


def make_windows(
    tokens: Tokens,
    token_bytes: npt.NDArray[np.int64],
    end_of_text: int,
    context_length: int,
    *,
    stride: int | None = None,
    limit: int | None = None,
) -> Windows:
    """Cut tokens into windows in which every token is a target exactly once.

    The first token is predicted from <|endoftext|>, which ends the document before it.

    Args:
        tokens: ids (N,).
        token_bytes: size of each id's text in bytes (V,).
        context_length: tokens per window (T).
        stride: new targets per window; the targets before them are only context, and IGNORE.
            None: context_length, so that windows do not overlap.
        limit: approximate number of tokens to score, in evenly spaced windows; None for all.
    """
    stride = stride or context_length
    count = math.ceil(len(tokens) / stride)
    chosen = np.arange(count)
    if limit is not None and limit < len(tokens):
        chosen = np.linspace(0, count - 1, max(1, limit // stride)).round().astype(np.int64)
    stream = np.concatenate([[end_of_text], tokens]).astype(np.int64)  # targets are one later
    first_new = chosen[:, None] * stride
    begin = np.maximum(0, first_new + stride - context_length)
    place = begin + np.arange(context_length)  # (windows, T)
    counts = (place >= first_new) & (place < first_new + stride) & (place < len(tokens))
    targets = stream[np.minimum(place, len(tokens) - 1) + 1]
    return Windows(
        inputs=torch.from_numpy(stream[np.minimum(place, len(tokens))]),
        targets=torch.from_numpy(np.where(counts, targets, IGNORE)),
        n_bytes=int(token_bytes[targets[counts]].sum()),
    )


@dataclass(frozen=True)
class Predictions:
    """A model's prediction of each target, in order.

    Attributes:
        losses: cross-entropies in nats (N,), fp32.
        right: whether the model considered the target most likely (N,), bool.
        confidences: probabilities of the most likely tokens (N,), fp32.
    """

    losses: Tensor
    right: Tensor
    confidences: Tensor

    def totals(self) -> tuple[float, int, int]:
        """Sum of the losses, number of right tokens, number of tokens, for `Scores.of`."""
        return self.losses.double().sum().item(), int(self.right.sum()), len(self.losses)

    def scores(self, n_bytes: int) -> Scores:
        """The scores of the predictions, for targets whose text has `n_bytes` bytes."""
        return Scores.of(n_bytes, *self.totals())


@torch.no_grad()  # not inference_mode, which FSDP's parameters don't support
def predict(model: Model, windows: Windows, batch_size: int | None = None) -> Predictions:
    """Predict the targets of windows with a model, in evaluation mode.

    Args:
        batch_size: windows at once; changes the result only by rounding. None selects the fastest
            number for the device.
    """
    was_training = model.training
    model.eval()
    device = model.device
    tokens_at_once = TOKENS_AT_ONCE.get(device.type, TOKENS_AT_ONCE_ELSEWHERE)
    batch_size = batch_size or max(1, tokens_at_once // windows.inputs.size(1))
    # With FSDP each process has only shards of the weights, and the model gathers them as it runs.
    whole = type(model.head_weight.detach()) is Tensor
    network = for_inference(model) if whole else model
    # Allocated at once: if small arrays are kept between large ones that are freed, glibc takes new
    # memory for the next large ones (430 MB, and a second, for a model of 3 MB; docs/log.md).
    n_targets = int((windows.targets != IGNORE).sum())
    losses, confidences = torch.empty(2, n_targets, device=device)
    right = torch.empty(n_targets, dtype=torch.bool, device=device)
    done = 0
    rows = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    for first in range(0, len(windows.inputs), batch_size):
        targets = windows.targets[first : first + batch_size].to(device)
        counts = targets != IGNORE
        hidden = network.hidden(windows.inputs[first : first + batch_size].to(device))
        for x, target in zip(hidden[counts].split(rows), targets[counts].split(rows), strict=True):
            part = slice(done, done + len(x))
            logits = network.logits(x)  # (rows, V)
            losses[part] = F.cross_entropy(logits, target, reduction="none")
            best = logits.max(dim=-1)  # on a CPU in half the time of argmax
            torch.eq(best.indices, target, out=right[part])
            margin = best.values - logits.gather(1, target[:, None]).squeeze(1)
            # The target's probability is e^-loss.
            torch.exp(margin - losses[part], out=confidences[part])
            done = part.stop
    model.train(was_training)
    return Predictions(losses.cpu(), right.cpu(), confidences.cpu())


def score(model: Model, windows: Windows, batch_size: int | None = None) -> Scores:
    """Score a model on windows."""
    return predict(model, windows, batch_size).scores(windows.n_bytes)
