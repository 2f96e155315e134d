"""Generating several texts at once with a trained model and a cache of keys and values."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinyllm.generation.network import Network
from tinyllm.generation.rows import Chances, RepetitionPenalty, Rows


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, with the meaning and order that transformers gives the filters.

    Attributes:
        max_tokens: largest number of tokens to generate.
        temperature: divisor of the logits; 0 selects the most likely token.
        top_k: number of most likely tokens to sample from; None for all.
        top_p: of those, sample from the most likely ones that together have this probability; None
            for all (https://arxiv.org/abs/1904.09751).
        min_p: of those, sample from the ones with at least this fraction of the largest
            probability; None for all (https://arxiv.org/abs/2407.01082).
        repetition_penalty: the logits of tokens in the prompt and the generated text are divided by
            this if they are positive, and multiplied if negative; 1 for none
            (https://arxiv.org/abs/1909.05858).

    Raises:
        ValueError: values are out of range; one line for each.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        wrong = out_of_range(vars(self))
        if wrong:
            lines = (f"{name} = {vars(self)[name]}: {message}" for name, message in wrong.items())
            raise ValueError("\n".join(lines))


def out_of_range(values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with values of `Sampling`, by name."""
    allowed: dict[str, tuple[Callable[[Any], bool], str]] = {
        "max_tokens": (lambda count: count >= 1, "1 or more"),
        "temperature": (lambda divisor: 0 <= divisor < math.inf, "0 or more"),
        "top_k": (lambda count: count is None or count >= 1, "1 or more"),
        "top_p": (lambda share: share is None or 0 < share <= 1, "above 0 and up to 1"),
        "min_p": (lambda share: share is None or 0 <= share <= 1, "from 0 to 1"),
        "repetition_penalty": (lambda divisor: 0 < divisor < math.inf, "above 0"),
    }
    return {
        name: f"must be {words}"
        for name, (right, words) in allowed.items()
        if name in values and not right(values[name])
    }


def write(
    network: Network,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    stop: int | None = None,
) -> list[list[int]]:
    """The ids that a `Generation` yields for each prompt, as lists."""
    texts: list[list[int]] = [[] for _ in prompts]
    for tokens in Generation(network, prompts, sampling, generators, stop):
        for text, token in zip(texts, tokens, strict=True):
            if token is not None:
                text.append(token)
    return texts


class Generation:
    """Generates a continuation of each prompt; iterating yields one token per text at a time.

    A token is None for a text that has ended or not started. The texts advance together, position
    by position; a text reads tokens from its prompt until the prompt ends. A text depends only on
    its prompt and generator, not on the other texts (except for the last bits of the logits, which
    change with the number of texts and almost never decide which token is drawn).

    When the context is full, its older half is dropped and the rest is computed again, which costs
    one pass over half a context per half a context.
    """

    def __init__(
        self,
        network: Network,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        generators: Sequence[torch.Generator],
        stop: int | None = None,
    ) -> None:
        """
        Args:
            network: used by one caller at a time.
            prompts: ids of each prompt, at least one. The model reads only the end of a prompt
                longer than the context; the repetition penalty applies to the whole prompt.
            generators: one per prompt, on the CPU.
            stop: token that ends a text; it is not yielded.

        Raises:
            ValueError: a prompt is empty.
        """
        if not all(prompts):
            raise ValueError("a prompt must have at least one token")
        self._network, self._prompts, self._sampling = network, prompts, sampling
        self._generators, self._stop = generators, stop
        limit = network.config.context_length
        self._begins = [min(len(prompt), limit) for prompt in prompts]
        self._ends = [begin + sampling.max_tokens for begin in self._begins]
        self._logits = torch.empty(0)  # that the last tokens were chosen from, (B, V)
        self._chosen: list[tuple[int, int, int]] = []

    def end(self, text: int) -> None:
        """End a text: no further tokens are generated for it."""
        self._ends[text] = 0

    def log_probabilities(self) -> list[float | None]:
        """The natural logarithm of the last tokens' probabilities; None where there is no token.

        They are the model's, before the temperature, the filters and the penalty.
        """
        found: list[float | None] = [None] * len(self._prompts)
        for row, text, token in self._chosen:
            logits = self._logits[row]
            found[text] = float(logits[token] - logits.logsumexp(dim=-1))
        return found

    def __iter__(self) -> Iterator[list[int | None]]:
        if not self._prompts:
            return
        given = [p[-b:] for p, b in zip(self._prompts, self._begins, strict=True)]
        texts = list(range(len(given)))  # that each row of the batch belongs to
        first, longest = min(self._begins), max(self._begins)
        chances = Chances(self._begins, self._sampling.max_tokens, self._generators)
        penalty = RepetitionPenalty(self._network, self._prompts, self._sampling.repetition_penalty)
        rows = Rows(self._network, [prompt[:first] for prompt in given])
        for place in range(first, max(self._ends)):
            self._logits = rows.logits
            tokens = choose(penalty.applied(rows.logits), self._sampling, chances.at(place))
            if place < longest:
                read = ((row, given[text]) for row, text in enumerate(texts))
                tokens = [p[place] if place < len(p) else tokens[row] for row, p in read]
            new = self._keep_new(place, texts, tokens)
            if self._chosen:
                yield new
            going = [row for row, text in enumerate(texts) if place + 1 < self._ends[text]]
            if not going:
                return
            if 2 * len(going) <= len(texts):  # not at every end, because it copies the cache
                texts, tokens = ([each[row] for row in going] for each in (texts, tokens))
                for part in (chances, penalty, rows):
                    part.keep(going)
            penalty.append(tokens)
            rows.append(tokens)

    def _keep_new(
        self, place: int, texts: Sequence[int], tokens: Sequence[int]
    ) -> list[int | None]:
        """The token of each text that is generated at a position; a stop token ends its text."""
        new: list[int | None] = [None] * len(self._prompts)
        self._chosen = []
        for row, (text, token) in enumerate(zip(texts, tokens, strict=True)):
            if self._begins[text] <= place < self._ends[text]:
                if token == self._stop:
                    self._ends[text] = place
                else:
                    new[text] = token
                    self._chosen.append((row, text, token))
        return new


def choose(logits: Tensor, sampling: Sampling, chances: Sequence[float]) -> list[int]:
    """Draw a token for each row of logits (B, V) by inverting the cumulative probabilities.

    On a CPU, numpy takes a fraction of torch's time for arrays of this size. Rows are independent,
    so that a text does not depend on the number of texts.

    Args:
        chances: a number from (0, 1] for each row.
    """
    if sampling.temperature == 0:
        greedy: list[int] = logits.cpu().numpy().argmax(axis=-1).tolist()
        return greedy
    each, ids, k = np.arange(len(logits))[:, None], None, sampling.top_k
    if k is None or k >= logits.size(-1):
        candidates = logits.cpu().numpy()
    elif logits.device.type == "cpu":
        candidates = logits.numpy()
        ids = candidates.argpartition(-k)[:, -k:]
        candidates = candidates[each, ids]
    else:  # only some of the logits have to leave the device
        candidates, ids = (found.cpu().numpy() for found in logits.topk(k))
    if ids is not None:
        order = (-candidates).argsort(kind="stable")  # most likely first
        candidates, ids = candidates[each, order], ids[each, order]
    elif (sampling.top_p or 1) < 1 or sampling.min_p:
        ids = (-candidates).argsort()  # a stable one takes seven times as long
        candidates = candidates[each, ids]
    places = _draw(candidates.astype(np.float64), sampling, np.array(chances)[:, None])
    drawn: list[int] = (places if ids is None else ids[each[:, 0], places]).tolist()
    return drawn


def _draw(
    logits: npt.NDArray[np.float64], sampling: Sampling, chances: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Draw an index (B,) of each row of logits (B, N), which top_p and min_p need sorted."""
    logits -= logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits / sampling.temperature)  # the largest is 1
    cumulated = weights.cumsum(axis=-1)
    end = cumulated[:, -1:]
    if (sampling.top_p or 1) < 1:  # 1 keeps every token, and costs nothing
        below = (cumulated < sampling.top_p * end).sum(axis=-1, keepdims=True)
        end = np.take_along_axis(cumulated, np.minimum(below, weights.shape[1] - 1), -1)
    if sampling.min_p:
        kept = (weights >= sampling.min_p).sum(axis=-1, keepdims=True)
        end = np.minimum(end, np.take_along_axis(cumulated, kept - 1, -1))
    # The first index whose sum reaches a number above 0: never a token of probability 0.
    place: npt.NDArray[np.int64] = (cumulated < chances * end).sum(axis=-1)
    return place
