"""The operations of networks, each as a plain formula.

On a CPU every operation reads and writes main memory, and autograd's chains of small operations
take as long as the matrix products. `tinyllm.models.cpu_kernels` computes the same faster there,
with gradients written by hand. The formulas run on other devices, and under torch's compiler, which
fuses them. Attention keeps its kernel there too: compiled, it is faster than the compiled formula.

B: sequences in the batch, T: tokens in a sequence, C: width, H: heads, K: heads of keys and values,
D: width of a head, F: width of the MLP's hidden layer, V: vocabulary.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tinyllm.models import cpu_kernels
from tinyllm.models.config import IGNORE, NORM_EPS

P = ParamSpec("P")
R = TypeVar("R")


def uses_cpu_kernels(x: Tensor) -> bool:
    """Whether the CPU kernels compute operations on x."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def on_cpu(
    kernel: Callable[P, R],
    when: Callable[P, bool] = lambda *_, **__: True,
    compiled: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Replace a formula on a CPU by a kernel of the same signature, if `when` is true.

    Args:
        compiled: whether the kernel replaces the formula under torch's compiler too.
    """

    def decorate(formula: Callable[P, R]) -> Callable[P, R]:
        @wraps(formula)
        def compute(*args: P.args, **kwargs: P.kwargs) -> R:
            x: Any = args[0]
            here = uses_cpu_kernels(x) or (
                compiled and x.device.type == "cpu" and torch.compiler.is_compiling()
            )
            if here and when(*args, **kwargs):
                return kernel(*args, **kwargs)
            return formula(*args, **kwargs)

        return compute

    return decorate


@on_cpu(cpu_kernels.norm)
def norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """RMS norm over the last dimension (https://arxiv.org/abs/1910.07467).

    Args:
        x: (..., C).
        weight: (C,), fp32; None for ones.
    """
    y = F.rms_norm(x, (x.size(-1),), eps=NORM_EPS)
    return y if weight is None else y * weight.to(x.dtype)


@on_cpu(cpu_kernels.squared_relu_mlp)
def squared_relu_mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Two products around max(h, 0) squared (https://arxiv.org/abs/2109.08668).

    Args:
        x: (B, T, C).
        up, down: weights, (F, C) and (C, F), of x's type.
    """
    return F.linear(F.linear(x, up).relu().square(), down)


@on_cpu(cpu_kernels.swiglu_mlp, when=lambda *_: torch.is_grad_enabled())
def swiglu_mlp(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """silu(x @ gate.T) * (x @ up.T) @ down.T (https://arxiv.org/abs/2002.05202).

    Args:
        x: (B, T, C).
        gate_up: the weights of gate and up, concatenated, (2 F, C), of x's type.
        down: (C, F), of x's type.
    """
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)  # each (B, T, F)
    return F.linear(F.silu(gate) * up, down)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (https://arxiv.org/abs/2104.09864): rotate each pair of features.

    Args:
        x: (..., T, D); each feature in the first half of D is paired with one in the second.
        cos, sin: of the angles, (T, D / 2).
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@on_cpu(cpu_kernels.split_heads)
def split_heads(
    qkv: Tensor, n_head: int, cos: Tensor, sin: Tensor, *,
    normalise: bool, weights: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Queries and keys with rotary positions, and values.

    Args:
        qkv: (B, T, H + 2 K, D): heads of queries, then of keys, then of values.
        n_head: H.
        cos, sin: of the angles, (T, D / 2), fp32.
        normalise: whether to apply an RMS norm to queries and keys before the rotation.
        weights: of the norms of queries and of keys, each (D,), fp32; None for ones.

    Returns:
        q (B, H, T, D), k and v (B, K, T, D).
    """
    heads = qkv.transpose(1, 2)  # (B, H + 2 K, T, D)
    n_kv_head = (heads.size(1) - n_head) // 2
    q, k, v = heads.split([n_head, n_kv_head, n_kv_head], dim=1)
    # Computed in fp32, like the cosines, and rounded once: attention needs one type for all three.
    q, k = q.float(), k.float()
    if normalise:
        q_weight, k_weight = weights or (None, None)
        q, k = norm(q, q_weight), norm(k, k_weight)
    return rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype), v


def document_mask(queries: Tensor, keys: Tensor, n_head: int, dtype: torch.dtype) -> Tensor:
    """Attention to earlier tokens of the same document: 0 where it is allowed, -inf elsewhere.

    Rotary positions act through their differences alone, so they need not restart at a document.

    Args:
        queries: number of each query's document (B, T); the queries are the last T positions.
        keys: number of each key's document (B, S).
        n_head: H.

    Returns:
        (B, H, T, S), for `attend`, in most cases a view of (B, T, S).
    """
    same = queries[:, :, None] == keys[:, None, :]
    allowed = same.tril(keys.size(1) - queries.size(1))
    mask = torch.zeros_like(allowed, dtype=dtype).masked_fill_(~allowed, float("-inf"))
    mask = mask[:, None].expand(-1, n_head, -1, -1)
    if uses_cpu_kernels(mask) and cpu_kernels.attends_faster(mask, mask.mT, mask, 0.0):
        return mask.contiguous()  # the kernel reads it so; a copy in each layer costs 4 % of a step
    return mask


@on_cpu(cpu_kernels.attend, when=cpu_kernels.attends_faster, compiled=True)
def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    """Causal attention (B, H, T, D); H / K query heads share a head of keys and values.

    Args:
        q: (B, H, T, D).
        k, v: (B, K, S, D); if S exceeds T, the queries are the last T positions.
        dropout: fraction of the attention weights zeroed.
        mask: added to the scores (B, H, T, S), of q's type (`document_mask`). None: causal alone.
    """
    new, seen = q.size(2), k.size(2)
    causal = mask is None and new == seen
    if mask is None and 1 < new < seen:
        mask = torch.ones(new, seen, dtype=torch.bool, device=q.device).tril(seen - new)
    return F.scaled_dot_product_attention(
        q, k, v, mask, dropout, is_causal=causal, enable_gqa=k.size(1) < q.size(1)
    )


@on_cpu(cpu_kernels.cross_entropy, when=lambda *_: torch.is_grad_enabled())
def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum of the cross-entropies of softmax(x @ weight.T), in nats.

    Args:
        x: (N, C).
        weight: of the head (V, C).
        targets: (N,); IGNORE excludes a row.
    """
    logits = F.linear(x, weight.to(x.dtype)).float()
    return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
