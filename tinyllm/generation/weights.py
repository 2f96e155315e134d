"""A decoder's weights, prepared for inference, and the cache of keys and values.

B: sequences, T: tokens in each, C: width, H: heads, K: heads of keys and values, D: width of a
head, F: width of the MLP's hidden layer, V: vocabulary.
"""

from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from tinyllm.models.config import ModelConfig
from tinyllm.models.model import Decoder, Layer

Array = TypeVar("Array")


class LayerWeights(NamedTuple, Generic[Array]):
    """A block's weights, transposed for x @ weight."""

    qkv: Array  # (C, (H + 2 * K) * D)
    heads: Array | None  # weights of the norms of queries and keys, (H + K, D); None for ones
    out: Array  # (C, C)
    up: Array  # (C, F), or (C, 2 * F) for SwiGLU
    down: Array  # (F, C)


class Weights(NamedTuple):
    """A decoder's weights; work that does not depend on the tokens is already done.

    An RMS norm is x / |x| * sqrt(C), where |x| includes the norm's epsilon. The factor sqrt(C) is
    part of the weights that follow; for queries and keys, of the rotation that follows. The two
    halves of a head are interleaved, so that rotating a pair is one complex multiplication instead
    of four operations.

    Attributes:
        embedding: (V, C), fp32.
        head: (C, V).
        turns: complex factors of queries and keys at each position, (context_length, D / 2).
        normalised: whether queries and keys are normalised.
        gated: True for a SwiGLU MLP, False for a squared ReLU.
    """

    embedding: Tensor
    layers: list[LayerWeights[Tensor]]
    head: Tensor
    turns: Tensor
    normalised: bool
    gated: bool


def prepare(config: ModelConfig, decoder: Decoder, dtype: torch.dtype) -> Weights:
    """Prepare a decoder's weights for products in some precision."""
    length = config.d_head**0.5 if decoder.normalised else 1.0
    return Weights(
        embedding=decoder.embedding.detach(),
        layers=[_layer(config, layer, dtype) for layer in decoder.layers],
        head=_transposed(decoder.head * config.d_model**0.5, dtype),
        turns=torch.complex(decoder.cos, decoder.sin) * length,
        normalised=decoder.normalised,
        gated=decoder.gated,
    )


def _layer(config: ModelConfig, layer: Layer, dtype: torch.dtype) -> LayerWeights[Tensor]:
    C, D, heads = config.d_model, config.d_head, None
    rows = torch.arange(len(layer.qkv), device=layer.qkv.device)
    turned = config.d_queries + config.d_keys
    # 0, D / 2, 1, D / 2 + 1, ... in each head of queries and keys; values keep their order.
    pairs = rows[:turned].view(-1, 2, D // 2).transpose(1, 2).reshape(-1)
    qkv = (layer.qkv * C**0.5)[torch.cat((pairs, rows[turned:]))]
    if layer.q_norm is not None and layer.k_norm is not None:
        queries = layer.q_norm.detach().expand(config.n_head, D)
        keys = layer.k_norm.detach().expand(config.n_kv_head, D)
        halves = torch.cat((queries, keys)).view(-1, 2, D // 2)
        heads = halves.transpose(1, 2).reshape(-1, D)
    out, up, down = (_transposed(w, dtype) for w in (layer.out, layer.up * C**0.5, layer.down))
    return LayerWeights(_transposed(qkv, dtype), heads, out, up, down)


def _transposed(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to(dtype).t().contiguous()


class Cache:
    """Keys and values of earlier tokens, so that only those of new tokens are computed.

    Attributes:
        kv: keys, then values, (layers, 2, B, K, context_length, D), filled up to `length`.
        length: number of tokens in the cache.
        begins: position at which each sequence's last document begins (B,); 0 if attention crosses
            documents.
    """

    def __init__(self, config: ModelConfig, batch_size: int, like: Tensor) -> None:
        """An empty cache for some sequences, of a tensor's type and on its device."""
        heads = batch_size, config.n_kv_head, config.context_length, config.d_head
        self.kv = like.new_empty(config.n_layer, 2, *heads)
        self.length = 0
        self.begins = torch.zeros(batch_size, dtype=torch.int64, device=like.device)

    def extended(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values (B, K, length + T, D) after writing a layer's next ones (B, K, T, D).

        `length` is to be increased after the last layer.
        """
        end = self.length + k.size(2)
        keys, values = self.kv[layer, :, :, :, :end]
        keys[:, :, self.length :] = k
        values[:, :, self.length :] = v
        return keys, values

    def keep(self, rows: Tensor) -> None:
        """Keep only the sequences at some indices (N,)."""
        self.kv = self.kv[:, :, rows]
        self.begins = self.begins[rows]
