"""One more token of one text, on a CPU.

The products take microseconds, so that the overhead of operations decides: 0.3 to 1 µs in numpy, 1
to 4 µs in torch. The output arrays are made once. docs/log.md has the figures.

C: width, H: heads, K: heads of keys and values, D: width of a head, F: width of the MLP's hidden
layer, V: vocabulary.
"""

from math import sqrt

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tinyllm.generation.weights import Cache, LayerWeights, Weights
from tinyllm.models.config import NORM_EPS, ModelConfig

Floats = npt.NDArray[np.float32]


class Step:
    """A decoder that reads one token, in fp32; used by one caller at a time.

    `Weights` says where the factors of norms are.
    """

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        """Use the weights' memory if they are fp32, and a copy otherwise."""
        C, H, K, D = config.d_model, config.n_head, config.n_kv_head, config.d_head
        self._normalised = weights.normalised
        self._activated = self._swiglu if weights.gated else self._squared_relu
        self._embedding, self._head = weights.embedding.numpy(), weights.head.float().numpy()
        self._layers = [_arrays(layer) for layer in weights.layers]
        scales = np.ones((H + K, 1), np.float32)
        scales[:H] = D**-0.5  # attention's, for queries
        self._turns = weights.turns.numpy()[:, None] * scales  # (context_length, H + K, D / 2)
        self._eps = C * NORM_EPS
        self._document_end = config.document_end
        # Arrays, because operations with numbers of Python take twice as long.
        self._head_eps, self._half = np.array([[D * NORM_EPS], [0.5]], np.float32)
        # The arrays that an operation writes to, and views of them.
        self._normed = np.empty(C, np.float32)
        self._qkv = np.empty((H + 2 * K) * D, np.float32)
        heads = self._qkv.reshape(-1, D)
        self._q = heads[:H].reshape(K, -1, D)  # queries that share keys are rows
        self._qk = heads[: H + K]
        self._pairs = self._qk.view(np.complex64)
        self._kv = heads[H:].reshape(2, K, D)
        self._lengths = np.empty(H + K, np.float32)
        self._y = np.empty(C, np.float32)
        self._y_heads = self._y.reshape(K, -1, D)
        self._up = np.empty(self._layers[0].up.shape[1], np.float32)
        self._gate, self._gated = np.split(self._up, 2)
        self._hidden = np.empty(self._layers[0].down.shape[0], np.float32)

    def logits(self, token: int, cache: Cache) -> Floats:
        """Logits (1, V) after one more token of one text.

        Args:
            cache: the text's earlier keys and values, extended by the token's.
        """
        place, begin = cache.length, 0
        if self._document_end is not None:
            if token == self._document_end:
                cache.begins = cache.begins.new_full((1,), place)
            begin = int(cache.begins)
        turns = self._turns[place]
        kv = cache.kv.numpy()[:, :, 0]  # (layers, 2, K, context_length, D)
        seen = kv[..., begin : place + 1, :]
        x = self._embedding[token].copy()  # (C,)
        for layer, new, keys, values in zip(
            self._layers, kv[..., place, :], seen[:, 0].swapaxes(-1, -2), seen[:, 1], strict=True
        ):
            np.dot(self._norm(x), layer.qkv, out=self._qkv)
            self._turn(layer.heads, turns)
            new[...] = self._kv
            x += self._attend(keys, values).dot(layer.out)
            np.dot(self._norm(x), layer.up, out=self._up)
            x += self._activated().dot(layer.down)
        cache.length += 1
        return self._norm(x).dot(self._head)[None]

    def _norm(self, x: Floats) -> Floats:
        return np.multiply(x, 1 / sqrt(x.dot(x) + self._eps), out=self._normed)

    def _turn(self, weights: Floats | None, turns: npt.NDArray[np.complex64]) -> None:
        """Apply rotary positions to queries and keys, after their norms if there are any."""
        if self._normalised:
            lengths = np.vecdot(self._qk, self._qk, out=self._lengths)
            lengths += self._head_eps
            self._qk /= np.sqrt(lengths, out=lengths)[:, None]
        if weights is not None:
            self._qk *= weights
        self._pairs *= turns

    def _attend(self, keys: Floats, values: Floats) -> Floats:
        """Attention (C,) to keys (K, D, seen) and values (K, seen, D)."""
        scores = np.matmul(self._q, keys)  # (K, H / K, seen)
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        np.matmul(scores, values, out=self._y_heads)
        self._y_heads /= np.add.reduce(scores, axis=-1, keepdims=True)
        return self._y

    def _swiglu(self) -> Floats:
        """The MLP's hidden layer (F,); silu(2 h) is h * tanh(h) + h, which does not overflow."""
        half = np.multiply(self._gate, self._half, out=self._gate)
        y = np.tanh(half, out=self._hidden)
        y *= half
        y += half
        y *= self._gated
        return y

    def _squared_relu(self) -> Floats:
        """The MLP's hidden layer (F,)."""
        np.maximum(self._up, 0, out=self._up)
        return np.multiply(self._up, self._up, out=self._hidden)


def _arrays(layer: LayerWeights[Tensor]) -> LayerWeights[Floats]:
    """A block's weights, in fp32."""
    heads = None if layer.heads is None else layer.heads.numpy()
    matrices = (layer.qkv, layer.out, layer.up, layer.down)
    qkv, out, up, down = (weight.float().numpy() for weight in matrices)
    return LayerWeights(qkv, heads, out, up, down)
