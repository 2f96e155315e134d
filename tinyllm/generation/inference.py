"""Fast inference: the model's logits without gradients.

Work that does not depend on the tokens is done once (`weights`), and output arrays are reused. On a
CPU, `step` computes texts that grow by one token at a time. docs/log.md has the figures.

B: sequences, T: tokens in each, C: width, H: heads, K: heads of keys and values, D: width of a
head, F: width of the MLP's hidden layer, V: vocabulary.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyllm.generation.step import Step
from tinyllm.generation.weights import Cache, LayerWeights, prepare
from tinyllm.models.config import NORM_EPS, ModelConfig
from tinyllm.models.formulas import attend
from tinyllm.models.model import Decoder, Model


class _Buffers:
    """The arrays that a pass over (B, T) tokens writes to, and views of them."""

    def __init__(
        self, config: ModelConfig, layer: LayerWeights[Tensor], B: int, T: int, like: Tensor
    ) -> None:
        C, H, K, D = config.d_model, config.n_head, config.n_kv_head, config.d_head
        fp32 = torch.float32
        self.normed = like.new_empty(B * T, C)
        self.length = like.new_empty(B * T, 1, dtype=fp32)
        self.qkv = like.new_empty(B * T, (H + 2 * K) * D)
        width = layer.down.size(0)
        # For SwiGLU the gate, then up: silu is slower over rows that are not adjacent.
        self.up = like.new_empty(layer.up.size(1) // width, B * T, width)
        heads = self.qkv.view(B, T, H + 2 * K, D)
        self.qk_raw, self.v = heads[:, :, : H + K], heads[:, :, H + K :].transpose(1, 2)
        self.qk = like.new_empty(B, T, H + K, D, dtype=fp32)
        self.qk_length = like.new_empty(B, T, H + K, 1, dtype=fp32)
        self.qk_pairs = torch.view_as_complex(self.qk.unflatten(-1, (-1, 2)))
        self.q, self.k = self.qk.transpose(1, 2).split([H, K], dim=1)  # (B, H, T, D), (B, K, T, D)


class Inference:
    """A decoder prepared for inference; it holds copies of the model's weights.

    It computes in the model's `compute_dtype`, with an fp32 residual stream; single tokens on a CPU
    in fp32. Its logits equal the model's up to rounding; their last bits may change with B, like
    those of any product.
    """

    def __init__(self, model: Model, decoder: Decoder) -> None:
        self.config = model.config
        self.dtype = model.compute_dtype
        self._weights = prepare(model.config, decoder, model.compute_dtype)
        C, D = self.config.d_model, self.config.d_head
        self._x_floor = decoder.cos.new_full((), (C * NORM_EPS) ** 0.5)
        self._head_floor = decoder.cos.new_full((), (D * NORM_EPS) ** 0.5)
        self._buffers: dict[tuple[int, int], _Buffers] = {}

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._weights.head.device

    @cached_property
    def _step(self) -> Step | None:
        """Computes single tokens on a CPU."""
        return Step(self.config, self._weights) if self.device.type == "cpu" else None

    def new_cache(self, batch_size: int) -> Cache:
        """An empty cache for `batch_size` sequences."""
        # numpy has no bf16.
        like = self._weights.head if self._step is None else self._weights.embedding
        return Cache(self.config, batch_size, like)

    def hidden(self, tokens: Tensor) -> Tensor:
        """The head's normalised input (B, T, C) after each token of ids (B, T)."""
        return self._read(tokens, None)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V), fp32, from the output of `hidden` (..., C)."""
        return (hidden @ self._weights.head).float()

    def next_logits(self, tokens: Sequence[Sequence[int]], cache: Cache) -> Tensor:
        """Logits (B, V), fp32, of the next token.

        Args:
            tokens: ids (B, T) that follow the ones in the cache, which is extended by them.
        """
        if self._step is not None and len(tokens) == len(tokens[0]) == 1:
            return torch.from_numpy(self._step.logits(tokens[0][0], cache))
        hidden = self._read(torch.tensor(tokens, device=self.device), cache)
        return self.logits(hidden[:, -1])

    @torch.inference_mode()
    def _read(self, tokens: Tensor, cache: Cache | None) -> Tensor:
        """The output of `hidden` for tokens that follow those of a cache, which they extend."""
        B, T = tokens.shape
        start = 0 if cache is None else cache.length
        assert start + T <= self.config.context_length, (start, T)
        buffers = self._buffers_for(B, T)
        normed, length = buffers.normed, buffers.length
        turns = self._weights.turns[start : start + T, None]  # (T, 1, D / 2)
        mask = self._mask(tokens, cache)
        x = F.embedding(tokens.reshape(-1), self._weights.embedding)  # (B * T, C)
        for number, layer in enumerate(self._weights.layers):
            _norm(x, length, self._x_floor, out=normed)
            torch.mm(normed, layer.qkv, out=buffers.qkv)
            self._turn_heads(buffers, layer.heads, turns)
            k, v = buffers.k, buffers.v
            if cache is not None:
                k, v = cache.extended(number, k, v)
            y = attend(buffers.q.to(self.dtype), k.to(self.dtype), v.to(self.dtype), 0.0, mask)
            _add_product(x, y.transpose(1, 2).reshape(B * T, -1), layer.out)
            _norm(x, length, self._x_floor, out=normed)
            for out, weight in zip(buffers.up, layer.up.chunk(len(buffers.up), 1), strict=True):
                torch.mm(normed, weight, out=out)
            _add_product(x, self._activated(buffers), layer.down)
        if cache is not None:
            cache.length += T
        return _norm(x, length, self._x_floor, torch.empty_like(normed)).view(B, T, -1)

    def _mask(self, tokens: Tensor, cache: Cache | None) -> Tensor | None:
        """The mask for attention from new tokens (B, T); None if it may cross documents."""
        if self.config.document_end is None:
            return None
        start = 0 if cache is None else cache.length
        places = torch.arange(start + tokens.size(1), device=tokens.device)
        ends = torch.where(tokens == self.config.document_end, places[start:], 0)
        begins = ends.cummax(dim=1).values  # where each new token's document begins (B, T)
        if cache is not None:
            begins = begins.maximum(cache.begins[:, None])
            cache.begins = begins[:, -1]
        forbidden = (places < begins[..., None]) | (places > places[start:, None])  # (B, T, S)
        mask = torch.zeros_like(forbidden, dtype=self.dtype).masked_fill_(forbidden, -torch.inf)
        return mask[:, None].expand(-1, self.config.n_head, -1, -1)

    def _turn_heads(self, buffers: _Buffers, weights: Tensor | None, turns: Tensor) -> None:
        """Apply rotary positions to queries and keys, after their norms if there are any."""
        if self._weights.normalised:
            _norm(buffers.qk_raw, buffers.qk_length, self._head_floor, out=buffers.qk)
        else:
            buffers.qk.copy_(buffers.qk_raw)
        if weights is not None:
            buffers.qk.mul_(weights)
        buffers.qk_pairs.mul_(turns)

    def _activated(self, buffers: _Buffers) -> Tensor:
        """The MLP's hidden layer (B * T, F)."""
        up = buffers.up[-1]
        if self._weights.gated:
            return up.mul_(F.silu(buffers.up[0], inplace=True))
        up.relu_()
        return up.mul_(up)

    def _buffers_for(self, B: int, T: int) -> _Buffers:
        """The buffers of the last pass if they have this shape; new ones otherwise."""
        if (B, T) not in self._buffers:
            layer, head = self._weights.layers[0], self._weights.head
            self._buffers = {(B, T): _Buffers(self.config, layer, B, T, head)}
        return self._buffers[B, T]


def _norm(x: Tensor, length: Tensor, floor: Tensor, out: Tensor) -> Tensor:
    """x over sqrt(length² + floor²) into `out`; `length` is the one of x's last dimension."""
    torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32, out=length)
    return torch.div(x, torch.hypot(length, floor, out=length), out=out)


def _add_product(x: Tensor, y: Tensor, weight: Tensor) -> None:
    """x += y @ weight, in x's precision."""
    if x.dtype == y.dtype:
        x.addmm_(y, weight)
    else:
        x.add_(y @ weight)
