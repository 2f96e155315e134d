"""The interface for generation: a model that reads one token after the other."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from tinyllm.generation.inference import Inference
from tinyllm.models.config import ModelConfig
from tinyllm.models.model import Model


class Network(Protocol):
    """A model whose weights are fixed; used by one caller at a time."""

    @property
    def config(self) -> ModelConfig: ...
    @property
    def device(self) -> torch.device: ...

    def new_cache(self, batch_size: int) -> Any:
        """An empty cache for `batch_size` sequences; it has `length` and `keep(rows)`."""

    def hidden(self, tokens: Tensor) -> Tensor:
        """The head's input (B, T, C) after each token of ids (B, T)."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V), fp32, from the output of `hidden` (..., C)."""

    def next_logits(self, tokens: Sequence[Sequence[int]], cache: Any) -> Tensor:
        """Logits (B, V), fp32, of the token after some ids (B, T), which follow the cache's."""


def for_inference(model: Model) -> Network:
    """Prepare a model for generation; one that is not a decoder recomputes the whole context."""
    decoder = model.decoder()
    return Recomputing(model) if decoder is None else Inference(model, decoder)


class Recomputing:
    """Generation for any model: computes the whole context again for each new token."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.config, self.device = model.config, model.device

    def new_cache(self, batch_size: int) -> "Seen":
        return Seen(torch.zeros(batch_size, 0, dtype=torch.int64, device=self.device))

    @torch.inference_mode()
    def hidden(self, tokens: Tensor) -> Tensor:
        return self._model.hidden(tokens)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        return self._model.logits(hidden)

    def next_logits(self, tokens: Sequence[Sequence[int]], cache: "Seen") -> Tensor:
        new = torch.tensor(tokens, device=self.device)
        cache.tokens = torch.cat((cache.tokens, new), dim=1)
        return self.logits(self.hidden(cache.tokens)[:, -1])


class Seen:
    """A cache of the tokens themselves, (B, length)."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    @property
    def length(self) -> int:
        return self.tokens.size(1)

    def keep(self, rows: Tensor) -> None:
        self.tokens = self.tokens[rows]
