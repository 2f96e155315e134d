"""Kernels for a CPU: the operations of `tinyllm.models.formulas`.

Each kernel computes the same as the formula with its name and signature, up to rounding. The
gradients are written by hand, which halves the passes over memory (figures: docs/log.md).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from tinyllm.models.config import IGNORE, NORM_EPS

# On a CPU in bf16, two batched products and a softmax are faster than the flash kernel up to this
# many tokens. In fp32 the flash kernel is at least as fast and uses less memory (docs/log.md).
EXPLICIT_ATTENTION_LIMIT = 512
# The head's products are faster with more rows, and the softmax with rows that stay in a core's
# cache: as fp32, these are 2 MB (docs/log.md).
LOGITS_AT_ONCE = 1 << 22
PROBABILITIES_AT_ONCE = 1 << 19


def _scale(x: Tensor) -> Tensor:
    """One over the root mean square of the last dimension, kept as a dimension of 1."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return (length.square_() / x.size(-1) + NORM_EPS).rsqrt_().to(x.dtype)


def _norm_gradient(grad: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Gradient with respect to x of y = x * scale(x)."""
    along = (grad * y).mean(dim=-1, keepdim=True)
    return torch.addcmul(grad, y, along, value=-1).mul_(scale)


def _weighted_norm_gradient(
    grad: Tensor, normed: Tensor, scale: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to x and to the weight of y = x * scale(x) * weight, all in fp32."""
    along = grad * normed
    grad_weight = along.flatten(0, -2).sum(dim=0)
    total = (along @ weight).unsqueeze(-1)
    grad_x = torch.mul(grad, weight, out=along)
    return grad_x.addcmul_(normed, total, value=-1 / len(weight)).mul_(scale), grad_weight


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None) -> Tensor:
        scale = _scale(x)
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        return normed if weight is None else normed * weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        normed, scale, weight = ctx.saved_tensors
        if weight is None:
            return _norm_gradient(grad, normed, scale), None
        grad_x, grad_weight = _weighted_norm_gradient(
            grad.float(), normed.float(), scale.float(), weight
        )
        return grad_x.to(grad.dtype), grad_weight


def norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    return _Norm.apply(x, weight)


class _SquaredReluMLP(Function):
    """Squares again for the gradient, so that it keeps one array of the hidden layer, not two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor) -> Tensor:
        hidden = (x @ up.t()).relu_()
        ctx.save_for_backward(x, hidden, up, down)
        return hidden.square() @ down.t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, hidden, up, down = ctx.saved_tensors
        buffer = hidden.square()
        grad_down = grad.t() @ buffer
        grad_hidden = torch.mm(grad, down, out=buffer).mul_(hidden).mul_(2)
        return grad_hidden @ up, grad_hidden.t() @ x, grad_down


def squared_relu_mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return _SquaredReluMLP.apply(x.flatten(0, 1), up, down).view_as(x)


class _SwiGLU(Function):
    """Keeps the hidden layer and its derivatives: the gradient then needs two multiplications.

    Recomputing them would keep two arrays instead of three and take a sixth longer (docs/log.md).
    Gate and up are separate products, because silu is slower over rows that are not adjacent.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        gate, up = (x @ half.t() for half in gate_up.chunk(2))  # each (N, F)
        by_up = F.silu(gate)
        by_gate = torch.ops.aten.silu_backward.grad_input(up, gate, grad_input=gate)
        hidden = up.mul_(by_up)
        ctx.save_for_backward(x, by_gate, by_up, hidden, gate_up, down)
        return hidden @ down.t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, by_gate, by_up, hidden, gate_up, down = ctx.saved_tensors
        grad_down = grad.t() @ hidden
        grad_hidden = torch.mm(grad, down, out=hidden)
        grad_both = grad.new_empty(len(x), len(gate_up))
        grad_gate, grad_up = grad_both.chunk(2, dim=-1)
        torch.mul(grad_hidden, by_gate, out=grad_gate)
        torch.mul(grad_hidden, by_up, out=grad_up)
        return grad_both @ gate_up, grad_both.t() @ x, grad_down


def swiglu_mlp(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    return _SwiGLU.apply(x.flatten(0, 1), gate_up, down).view_as(x)


class _RotateHeads(Function):
    """Computes the rows of all queries and then of all keys at once.

    It computes in fp32 internally: on a CPU, element-wise operations are faster in fp32 than bf16.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, q_weight: Tensor | None, k_weight: Tensor | None, n_head: int,
        cos: Tensor, sin: Tensor, normalise: bool,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        B, T, heads, D = qkv.shape
        n_kv_head = (heads - n_head) // 2
        ctx.heads, ctx.shape, ctx.rows = (n_head, n_kv_head, n_kv_head), qkv.shape, B * n_head
        q, k, v = qkv.transpose(1, 2).split(ctx.heads, dim=1)
        x = torch.empty(B * (n_head + n_kv_head), T, D)
        x_q, x_k = x[: ctx.rows], x[ctx.rows :]
        x_q.view(q.shape).copy_(q)
        x_k.view(k.shape).copy_(k)
        scale = normed = None
        if normalise:
            scale = _scale(x)
            x.mul_(scale)
        if q_weight is None or k_weight is None:
            _rotate_inplace(x, cos, sin)
        else:
            normed = x.to(qkv.dtype, copy=True)
            _rotate_inplace(x_q, cos, sin, q_weight)
            _rotate_inplace(x_k, cos, sin, k_weight)
        y = x.to(qkv.dtype)
        ctx.save_for_backward(y if normed is None else normed, scale, cos, sin, q_weight, k_weight)
        return y[: ctx.rows].view(q.shape), y[ctx.rows :].view(k.shape), v.contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, scale, cos, sin, *weights = ctx.saved_tensors
        grad = torch.empty_like(saved, dtype=torch.float32)
        rows = ctx.rows, len(grad) - ctx.rows
        for part, given in zip(grad.split(rows), grads, strict=False):
            part.view(given.shape).copy_(given)
        parts: Any = grad.split(rows)
        weight_grads: Any = (None, None)
        if weights[0] is None:
            # A rotation does not change the length, so the norm may come after it.
            if scale is not None:
                grad = _norm_gradient(grad, saved.float(), scale)
            parts = _rotate_inplace(grad, cos, -sin).split(rows)
        else:
            _rotate_inplace(grad, cos, -sin)
            normed = saved.float().split(rows)
            parts, weight_grads = zip(
                *map(_weighted_norm_gradient, parts, normed, scale.split(rows), weights),
                strict=True,
            )
        grad_qkv = saved.new_empty(ctx.shape)
        out = grad_qkv.transpose(1, 2).split(ctx.heads, dim=1)
        out[0].copy_(parts[0].view(out[0].shape))
        out[1].copy_(parts[1].view(out[1].shape))
        out[2].copy_(grads[2])
        return grad_qkv, *weight_grads, None, None, None, None


def _rotate_inplace(x: Tensor, cos: Tensor, sin: Tensor, weight: Tensor | None = None) -> Tensor:
    """`rotate` x * weight over whole rows at a time, for contiguous x (..., T, D) in fp32."""
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    if weight is not None:  # multiplies (T, D) numbers; x has B * H times as many
        cos, sin = cos * weight, sin * weight.roll(len(weight) // 2)
    return x.mul_(cos).addcmul_(swapped, sin)


def split_heads(
    qkv: Tensor, n_head: int, cos: Tensor, sin: Tensor, *,
    normalise: bool, weights: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    q_weight, k_weight = weights or (None, None)
    return _RotateHeads.apply(qkv, q_weight, k_weight, n_head, cos, sin, normalise)


def attends_faster(
    q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None
) -> bool:
    """Whether `attend` is faster than torch's flash kernel, or supports what that one does not."""
    del v, mask
    return (q.dtype == torch.bfloat16 or dropout > 0) and k.size(2) <= EXPLICIT_ATTENTION_LIMIT


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    new, seen = q.size(2), k.size(2)
    share = q.size(1) // k.size(1)  # query heads that share keys are rows of one product
    if mask is None:
        future = torch.full((new, seen), float("-inf"), dtype=q.dtype).triu(seen - new + 1)
        mask = future.repeat(share, 1)
    else:
        mask = mask.reshape(-1, share * new, seen)
    scores = torch.baddbmm(  # applies scale and mask in the same pass
        mask,
        q.reshape(-1, share * new, q.size(-1)),
        k.flatten(0, 1).transpose(1, 2),
        alpha=q.size(-1) ** -0.5,
    )  # (B * K, H / K * T, seen)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return torch.bmm(weights, v.flatten(0, 1)).view_as(q)


class _CrossEntropy(Function):
    """Computes the gradient along with the loss, some rows at a time.

    The logits, (N, V) and the largest array of all, are never in memory as a whole.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        w = weight.to(x.dtype)
        total = torch.zeros((), dtype=torch.float32, device=x.device)
        grad_x, grad_w = torch.empty_like(x), torch.zeros_like(weight)
        rows = max(1, LOGITS_AT_ONCE // len(weight))
        for first in range(0, len(x), rows):
            part = slice(first, first + rows)
            grad = x[part] @ w.t()  # the logits, replaced by their gradient
            total += _into_gradient(grad, targets[part])
            torch.mm(grad, w, out=grad_x[part])
            grad_w += grad.t() @ x[part]
        ctx.save_for_backward(grad_x, grad_w)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_x, grad_w = ctx.saved_tensors
        return grad_x * grad.to(grad_x.dtype), grad_w * grad, None


def _into_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Replace logits (N, V) by the gradient of their cross-entropies. Returns the sum of these."""
    total = torch.zeros((), dtype=torch.float32)
    rows = max(1, PROBABILITIES_AT_ONCE // logits.size(1))
    buffer = torch.empty(min(rows, len(logits)), logits.size(1))
    for part, of_part in zip(logits.split(rows), targets.split(rows), strict=True):
        p = torch.softmax(part, dim=-1, dtype=torch.float32, out=buffer[: len(part)])
        counts = of_part != IGNORE
        (row,) = counts.nonzero(as_tuple=True)
        target = row, of_part[row]
        total -= p[target].clamp_min_(torch.finfo(p.dtype).tiny).log_().sum()
        p[target] -= 1  # the gradient; a deterministic scatter_add_ would copy all of p
        if len(row) < len(p):
            p[~counts] = 0
        part.copy_(p)
    return total


def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return _CrossEntropy.apply(x, weight, targets)
