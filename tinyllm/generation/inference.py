"""Fast inference: the model's logits without gradients.

With one token at a time the products take microseconds, so every small operation around them
matters. Work that does not depend on the tokens is done once: weights are transposed, cast and
multiplied by the weights of norms, and output arrays are reused. docs/log.md has the figures.

B: sequences, T: tokens in each, C: width, H: heads, K: heads of keys and values, D: width of a
head, F: width of the MLP's hidden layer, V: vocabulary.
"""

from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyllm.models.config import NORM_EPS, ModelConfig
from tinyllm.models.formulas import attend, document_mask
from tinyllm.models.model import Decoder, Layer, Model


class Cache:
    """Keys and values of earlier tokens, so that only those of new tokens are computed.

    Attributes:
        keys, values: (layers, B * K, context_length, D), filled up to `length`.
        length: number of tokens in the cache.
        documents: number of each token's document (B, length), if attention doesn't cross them.
    """

    def __init__(self, layers: int, B: int, K: int, context_length: int, D: int, like: Tensor):
        self.keys = like.new_empty(layers, B * K, context_length, D)
        self.values = torch.empty_like(self.keys)
        self.length = 0
        self.documents = torch.zeros(B, 0, dtype=torch.int64, device=like.device)
        self._n_head = K

    def extend(self, count: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Extend the cache by some tokens.

        Returns:
            For each layer, the views to write their keys and values to (B, K, count, D), all keys
            (B * K, D, length) and all values (B * K, length, D), including the new ones.
        """
        start, self.length = self.length, self.length + count
        views = (
            self.keys.narrow(2, start, count).unflatten(1, (-1, self._n_head)),
            self.values.narrow(2, start, count).unflatten(1, (-1, self._n_head)),
            self.keys.narrow(2, 0, self.length).mT,
            self.values.narrow(2, 0, self.length),
        )
        return list(zip(*(view.unbind() for view in views), strict=True))

    def add_documents(self, tokens: Tensor, end: int) -> Tensor:
        """Record the documents of new tokens (B, T). Returns the number of each (B, T).

        Args:
            end: id of the token that ends a document.
        """
        new = (tokens == end).cumsum(dim=1) + self.documents[:, -1:].sum(dim=1, keepdim=True)
        self.documents = torch.cat((self.documents, new), dim=1)
        return new

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences at some indices (N,)."""
        K = self._n_head
        heads = (rows[:, None] * K + torch.arange(K, device=rows.device)).flatten()
        self.keys, self.values = self.keys[:, heads], self.values[:, heads]
        self.documents = self.documents[rows]


class _Prepared(NamedTuple):
    """A block's weights, transposed for x @ weight."""

    qkv: Tensor  # (C, (H + 2 * K) * D)
    heads: Tensor | None  # weights of the norms of queries and keys, (H + K, D)
    out: Tensor  # (C, C)
    up: Tensor  # (C, F), or (C, 2 * F)
    down: Tensor  # (F, C)


class _Buffers:
    """The arrays that a pass over (B, T) tokens writes to, and views of them."""

    def __init__(self, config: ModelConfig, width: int, B: int, T: int, like: Tensor) -> None:
        C, H, K, D = config.d_model, config.n_head, config.n_kv_head, config.d_head
        fp32 = torch.float32
        self.normed = like.new_empty(B * T, C)
        self.length = like.new_empty(B * T, 1, dtype=fp32)
        self.qkv = like.new_empty(B * T, (H + 2 * K) * D)
        self.up = like.new_empty(B * T, width)
        self.gates, self.gated = self.up.chunk(2, dim=-1)
        heads = self.qkv.view(B, T, H + 2 * K, D)
        self.qk_raw, self.v = heads[:, :, : H + K], heads[:, :, H + K :].transpose(1, 2)
        self.qk = like.new_empty(B, T, H + K, D, dtype=fp32)
        self.qk_length = like.new_empty(B, T, H + K, 1, dtype=fp32)
        self.qk_pairs = torch.view_as_complex(self.qk.unflatten(-1, (-1, 2)))
        self.q, self.k = self.qk.transpose(1, 2).split([H, K], dim=1)  # (B, H, T, D), (B, K, T, D)
        self.y = like.new_empty(B * T, C)
        self.y_heads = self.y.view(B * T * K, H // K, D)


class Inference:
    """A decoder prepared for inference; later changes of the model do not affect it.

    It computes in the model's `compute_dtype`, with an fp32 residual stream. Its logits equal the
    model's up to rounding; their last bits may change with B, like those of any product.

    An RMS norm is x / |x| * sqrt(C), where |x| includes the norm's epsilon. The factor sqrt(C) is
    part of the weights that follow; for queries and keys, of the rotation that follows.
    """

    def __init__(self, model: Model, decoder: Decoder) -> None:
        self.config = model.config
        self.dtype = model.compute_dtype
        C, D = self.config.d_model, self.config.d_head
        self._x_floor = decoder.cos.new_full((), (C * NORM_EPS) ** 0.5)
        self._head_floor = decoder.cos.new_full((), (D * NORM_EPS) ** 0.5)
        self._normalised, self._gated = decoder.normalised, decoder.gated
        self._layers = [self._prepare(layer) for layer in decoder.layers]
        self._embedding = decoder.embedding.detach()  # (V, C), fp32
        self._head = self._transposed(decoder.head * C**0.5)  # (C, V)
        # The two halves of a head are interleaved, so that rotating a pair is one complex
        # multiplication instead of four operations.
        length = D**0.5 if decoder.normalised else 1.0
        turns = torch.complex(decoder.cos, decoder.sin) * length
        self._turns = turns[:, None]  # (context_length, 1, D / 2)
        self._nothing = self._head.new_zeros(())
        self._buffers: dict[tuple[int, int], _Buffers] = {}

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._head.device

    def new_cache(self, batch_size: int) -> Cache:
        """An empty cache for `batch_size` sequences."""
        return self._cache(self.config.n_layer, batch_size, self.config.context_length)

    @torch.inference_mode()
    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """The head's normalised input after each token (B, T, C).

        Args:
            tokens: ids (B, T).
            cache: keys and values of the earlier tokens, extended by these. T is 1 if there are
                earlier tokens.
        """
        B, T = tokens.shape
        room = cache or self._cache(1, B, T)  # without a cache, all layers share one
        start = room.length
        assert start + T <= self.config.context_length and (start == 0 or T == 1), (start, T)
        buffers = self._buffers_for(B, T)
        normed, length = buffers.normed, buffers.length
        attention = self._attend_one if T == 1 and self.device.type == "cpu" else self._attend
        turns = self._turns.narrow(0, start, T)
        mask = self._mask(tokens, room)
        x = F.embedding(tokens.reshape(-1), self._embedding)  # (B * T, C)
        for layer, (new_k, new_v, k, v) in zip(self._layers, cycle(room.extend(T)), strict=False):
            _norm(x, length, self._x_floor, out=normed)
            torch.mm(normed, layer.qkv, out=buffers.qkv)
            self._turn_heads(buffers, layer.heads, turns)
            new_k.copy_(buffers.k)
            new_v.copy_(buffers.v)
            _add_product(x, attention(buffers, k, v, mask), layer.out)
            _norm(x, length, self._x_floor, out=normed)
            torch.mm(normed, layer.up, out=buffers.up)
            _add_product(x, self._activated(buffers), layer.down)
        return _norm(x, length, self._x_floor, torch.empty_like(normed)).view(B, T, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V), fp32, from the output of `hidden` (..., C)."""
        return (hidden @ self._head).float()

    def _turn_heads(self, buffers: _Buffers, weights: Tensor | None, turns: Tensor) -> None:
        """Apply rotary positions to queries and keys, after their norms if there are any."""
        if self._normalised:
            _norm(buffers.qk_raw, buffers.qk_length, self._head_floor, out=buffers.qk)
        else:
            buffers.qk.copy_(buffers.qk_raw)
        if weights is not None:
            buffers.qk.mul_(weights)
        buffers.qk_pairs.mul_(turns)

    def _mask(self, tokens: Tensor, cache: Cache) -> Tensor | None:
        """The mask for attention from new tokens (B, T); None if it may cross documents."""
        if self.config.document_end is None:
            return None
        new = cache.add_documents(tokens, self.config.document_end)
        return document_mask(new, cache.documents, self.config.n_head, self.dtype)

    def _activated(self, buffers: _Buffers) -> Tensor:
        """The MLP's hidden layer (B * T, F)."""
        if self._gated:
            return F.silu(buffers.gates).mul_(buffers.gated)
        up = buffers.up.relu_()
        return up.mul_(up)

    def _attend(self, buffers: _Buffers, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Causal attention (B * T, C) to k and v as returned by `Cache.extend`."""
        B, H, T, D = buffers.q.shape
        k, v = k.mT.unflatten(0, (B, -1)), v.unflatten(0, (B, -1))
        y = attend(buffers.q.to(self.dtype), k, v, 0.0, mask)
        return y.transpose(1, 2).reshape(B * T, H * D)

    def _attend_one(self, buffers: _Buffers, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The same for one query in each sequence, on a CPU."""
        # (B * K, H / K, D): queries that share keys are rows of one product.
        q = buffers.q.to(self.dtype).reshape(len(k), -1, self.config.d_head)
        # (B * K, H / K, seen); baddbmm even with beta 0, because it applies the factor
        added, beta = (self._nothing, 0) if mask is None else (mask.reshape(*q.shape[:2], -1), 1)
        scores = torch.baddbmm(added, q, k, beta=beta, alpha=q.size(-1) ** -0.5)
        torch.bmm(scores.softmax(dim=-1), v, out=buffers.y_heads)
        return buffers.y

    def _prepare(self, layer: Layer) -> _Prepared:
        C, D, heads = self.config.d_model, self.config.d_head, None
        rows = torch.arange(len(layer.qkv), device=layer.qkv.device)
        turned = self.config.d_queries + self.config.d_keys
        # 0, D / 2, 1, D / 2 + 1, ... in each head of queries and keys; values keep their order.
        pairs = rows[:turned].view(-1, 2, D // 2).transpose(1, 2).reshape(-1)
        qkv = (layer.qkv * C**0.5)[torch.cat((pairs, rows[turned:]))]
        if layer.q_norm is not None and layer.k_norm is not None:
            queries = layer.q_norm.detach().expand(self.config.n_head, D)
            keys = layer.k_norm.detach().expand(self.config.n_kv_head, D)
            halves = torch.cat((queries, keys)).view(-1, 2, D // 2)
            heads = halves.transpose(1, 2).reshape(-1, D)
        weights = (layer.out, layer.up * C**0.5, layer.down)
        return _Prepared(self._transposed(qkv), heads, *map(self._transposed, weights))

    def _transposed(self, weight: Tensor) -> Tensor:
        return weight.detach().to(self.dtype).t().contiguous()

    def _cache(self, layers: int, batch_size: int, length: int) -> Cache:
        config = self.config
        return Cache(layers, batch_size, config.n_kv_head, length, config.d_head, self._head)

    def _buffers_for(self, B: int, T: int) -> _Buffers:
        """The buffers of the last pass if they have this shape; new ones otherwise."""
        if (B, T) not in self._buffers:
            width = self._layers[0].up.size(1)
            self._buffers = {(B, T): _Buffers(self.config, width, B, T, self._head)}
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
