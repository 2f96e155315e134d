"""The state of texts that are generated together: their tokens, random numbers, repetitions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tinyllm.generation.network import Network

CHANCES_AT_ONCE = 1024  # random numbers drawn at once for each text


class Chances:
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
        self._held: list[list[float]]
        self._draw()

    def at(self, place: int) -> list[float]:
        """A number for each text; 1 if a text has none. Positions must not decrease."""
        if place >= self._start + CHANCES_AT_ONCE:
            self._start += CHANCES_AT_ONCE
            self._draw()
        return [row[place - self._start] for row in self._held]

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with only some of the texts."""
        self._rows = [self._rows[row] for row in rows]
        self._held = [self._held[row] for row in rows]

    def _draw(self) -> None:
        self._held = []
        for begin, generator in self._rows:
            first = max(begin - self._start, 0)
            last = min(begin + self._count - self._start, CHANCES_AT_ONCE)
            held = [1.0] * CHANCES_AT_ONCE
            if first < last:
                held[first:last] = (1 - torch.rand(last - first, generator=generator)).tolist()
            self._held.append(held)


class RepetitionPenalty:
    """The tokens of each text, whose logits are reduced."""

    def __init__(self, network: Network, prompts: Sequence[Sequence[int]], penalty: float) -> None:
        self._penalty = penalty
        self._seen: Tensor | None = None  # (B, V), bool
        if self._penalty != 1:
            V = network.config.vocab_size
            self._seen = torch.zeros(len(prompts), V, dtype=torch.bool, device=network.device)
            for row, prompt in enumerate(prompts):
                self._seen[row, torch.tensor(prompt)] = True

    def applied(self, logits: Tensor) -> Tensor:
        """Logits (B, V) after the penalty."""
        if self._seen is None:
            return logits
        return penalised(logits, self._seen, self._penalty)

    def append(self, tokens: Sequence[int]) -> None:
        """Add a token to each text."""
        if self._seen is not None:
            self._seen[range(len(tokens)), tokens] = True

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with only some of the texts."""
        if self._seen is not None:
            self._seen = self._seen[rows]


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits (B, V), reduced where `seen` (B, V) is true: never increased by a negative sign."""
    reduced = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, reduced, logits)


class Rows:
    """Texts that grow together, limited to the model's context.

    Attributes:
        logits: (B, V) of each text's next token.
    """

    def __init__(self, network: Network, tokens: Sequence[Sequence[int]]) -> None:
        """Start with tokens (B, T), T from 1 to the context length."""
        self._network = network
        self._tokens, self._cache = self._begin(tokens)

    def append(self, tokens: Sequence[int]) -> None:
        """Add a token to each."""
        limit = self._network.config.context_length
        for text, token in zip(self._tokens, tokens, strict=True):
            text.append(token)
        if self._cache.length == limit:
            newest = [text[-(limit // 2) :] for text in self._tokens]
            self._tokens, self._cache = self._begin(newest)
        else:
            new = [[token] for token in tokens]
            self.logits = self._network.next_logits(new, self._cache)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with only some of the texts."""
        self._tokens = [self._tokens[row] for row in rows]
        self._cache.keep(torch.tensor(rows, device=self._network.device))

    def _begin(self, tokens: Sequence[Sequence[int]]) -> tuple[list[list[int]], Any]:
        """The ids of each text, and a cache with those tokens."""
        cache = self._network.new_cache(len(tokens))
        self.logits = self._network.next_logits(tokens, cache)
        return [list(text) for text in tokens], cache
