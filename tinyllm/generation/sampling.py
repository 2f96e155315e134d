"""Generating several texts at once with a trained model and a cache of keys and values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyllm.generation.network import Network

CHANCES_AT_ONCE = 1024  # random numbers drawn at once for each text


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_tokens: largest number of tokens to generate.
        temperature: divisor of the logits; 0 selects the most likely token.
        top_k: number of most likely tokens to sample from; None for all.
        top_p: of those, sample from the most likely ones that together have this probability; None
            for all (https://arxiv.org/abs/1904.09751).
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None


def write(
    network: Network,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    stop: int | None = None,
) -> list[list[int]]:
    """The ids that `generate` yields for each prompt, as lists."""
    texts: list[list[int]] = [[] for _ in prompts]
    for tokens in generate(network, prompts, sampling, generators, stop):
        for text, token in zip(texts, tokens, strict=True):
            if token is not None:
                text.append(token)
    return texts


def generate(
    network: Network,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    stop: int | None = None,
) -> Iterator[list[int | None]]:
    """Generate a continuation of each prompt, yielding one token per text at a time.

    The texts advance together, position by position; a text reads tokens from its prompt until the
    prompt ends. A text depends only on its prompt and generator, not on the other texts (except for
    the last bits of the logits, which change with the number of texts and almost never decide which
    token is drawn).

    When the context is full, its older half is dropped and the rest is computed again, which costs
    one pass over half a context per half a context.

    Args:
        network: used by one caller at a time.
        prompts: ids of each prompt, at least one; only the end of a prompt longer than the context
            is read.
        generators: one per prompt, on the CPU.
        stop: token that ends a text; it is not yielded.

    Yields:
        One token per text; None for a text that has ended or not started.

    Raises:
        ValueError: a prompt is empty.
    """
    if not all(prompts):
        raise ValueError("a prompt must have at least one token")
    prompts = [prompt[-network.config.context_length :] for prompt in prompts]
    begins = [len(prompt) for prompt in prompts]
    ends = [begin + sampling.max_tokens for begin in begins]
    rows = list(range(len(prompts)))  # of the batch, without texts that have ended
    if not rows:
        return
    given, chances = _ids_by_place(prompts), _Chances(begins, sampling.max_tokens, generators)
    texts = _Texts(network, given[: min(begins)].t())
    for place in range(min(begins), max(ends)):
        tokens = choose(texts.logits, sampling, chances.at(place))  # (B,)
        if place < len(given):
            tokens = torch.where(given[place] < 0, tokens, given[place])
        new: list[int | None] = [None] * len(prompts)
        going = []
        for index, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            if begins[row] <= place < ends[row]:
                if token == stop:
                    ends[row] = place
                else:
                    new[row] = token
            if place + 1 < ends[row]:
                going.append(index)
        if any(token is not None for token in new):
            yield new
        if not going:
            return
        if 2 * len(going) <= len(rows):  # not at every end, because it copies the cache
            keep = torch.tensor(going)
            rows = [rows[index] for index in going]
            given, tokens = given[:, keep], tokens[keep]
            chances.keep(keep)
            texts.keep(keep)
        texts.append(tokens)


def choose(logits: Tensor, sampling: Sampling, chances: Tensor) -> Tensor:
    """Draw one token per row by inverting the cumulative probabilities.

    Args:
        logits: (B, V).
        chances: uniform on (0, 1], (B, 1), on the CPU.

    Returns:
        ids (B,), on the CPU.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1).cpu()
    V, ids = logits.size(-1), None
    if sampling.top_p is not None or (sampling.top_k or V) < V:
        logits, ids = logits.topk(min(sampling.top_k or V, V))  # most likely first
        ids = ids.cpu()
    logits = logits.cpu()  # so that draws are the same on every device
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature  # avoids overflow
    cumulated = logits.softmax(dim=-1).cumsum(dim=-1)  # (B, tokens considered)
    total = cumulated[:, -1:]
    if sampling.top_p is not None:
        last = torch.searchsorted(cumulated, sampling.top_p * total)
        total = cumulated.gather(1, last)
    # The first index whose sum reaches a number above 0: never a token of probability 0.
    place = torch.searchsorted(cumulated, chances * total)
    return (place if ids is None else ids.gather(1, place)).squeeze(1)


def _ids_by_place(prompts: Sequence[Sequence[int]]) -> Tensor:
    """The prompts' ids (longest prompt, B), -1 past the end of a prompt."""
    given = torch.full((max(map(len, prompts)), len(prompts)), -1)
    for row, prompt in enumerate(prompts):
        given[: len(prompt), row] = torch.tensor(prompt)
    return given


class _Chances:
    """The random numbers of each text, in (0, 1], from its own generator.

    They are drawn for some positions at a time, so that memory grows with the generated text. The
    numbers do not depend on how many are drawn at once: torch draws uniform numbers one by one.
    """

    def __init__(
        self, begins: Sequence[int], count: int, generators: Sequence[torch.Generator]
    ) -> None:
        """Start at the position of each text's first token, with `count` numbers per text."""
        self._rows = list(zip(begins, generators, strict=True))
        self._count = count
        self._start = min(begins)  # the position of the first number in memory
        self._held: Tensor
        self._draw()

    def at(self, place: int) -> Tensor:
        """A number for each text (B, 1); 1 if a text has none. Positions must not decrease."""
        if place >= self._start + CHANCES_AT_ONCE:
            self._start += CHANCES_AT_ONCE
            self._draw()
        return self._held[place - self._start]

    def keep(self, rows: Tensor) -> None:
        """Continue with only some of the texts."""
        self._rows = [self._rows[row] for row in rows.tolist()]
        self._held = self._held[:, rows]

    def _draw(self) -> None:
        self._held = torch.ones(CHANCES_AT_ONCE, len(self._rows), 1)
        for row, (begin, generator) in enumerate(self._rows):
            first = max(begin - self._start, 0)
            last = min(begin + self._count - self._start, CHANCES_AT_ONCE)
            if first < last:
                drawn = torch.rand(last - first, generator=generator)
                self._held[first:last, row, 0] = 1 - drawn


class _Texts:
    """Texts that grow together, limited to the model's context.

    Attributes:
        logits: (B, V) of each text's next token.
    """

    def __init__(self, network: Network, tokens: Tensor) -> None:
        """Start with tokens (B, T), T from 1 to the context length."""
        self._network = network
        self._tokens: list[Tensor] = []  # each (B,)
        self._cache = network.new_cache(0)
        self._begin(tokens)

    def append(self, tokens: Tensor) -> None:
        """Add a token (B,) to each."""
        limit = self._network.config.context_length
        self._tokens.append(tokens)
        if self._cache.length == limit:
            self._begin(torch.stack(self._tokens[-(limit // 2) :], dim=1))
        else:
            self._read(tokens[:, None])

    def keep(self, rows: Tensor) -> None:
        """Continue with only some of the texts."""
        self._tokens = [tokens[rows] for tokens in self._tokens]
        self._cache.keep(rows.to(self._network.device))

    def _begin(self, tokens: Tensor) -> None:
        self._tokens = list(tokens.unbind(dim=1))
        self._cache = self._network.new_cache(len(tokens))
        self._read(tokens)

    def _read(self, tokens: Tensor) -> None:
        hidden = self._network.hidden(tokens.to(self._network.device), self._cache)
        self.logits = self._network.logits(hidden[:, -1])
