"""The operations of `tinyllm.models.formulas`, written for a CPU.

Each computes what the formula of the same name and signature does, up to rounding. The gradients
are written out, which halves the passes over memory (docs/log.md has the figures).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from tinyllm.models.config import IGNORE, NORM_EPS

# In bf16, up to this many tokens, two batched products and a softmax are faster on a CPU than the
# flash kernel, which in fp32 is as fast or faster and holds less; docs/log.md has the figures.
EXPLICIT_ATTENTION_LIMIT = 512
LOGITS_AT_ONCE = 1 << 20  # as fp32 that is 4 MB, which stays in the processor's cache


def _scale(x: Tensor) -> Tensor:
    """One over the root mean square of the last dimension, kept as a dimension of 1."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return (length.square_() / x.size(-1) + NORM_EPS).rsqrt_().to(x.dtype)


def _norm_gradient(grad: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Gradient with respect to x of y = x * scale(x)."""
    along = (grad * y).mean(dim=-1, keepdim=True)
    return torch.addcmul(grad, y, along, value=-1).mul_(scale)


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = _scale(x)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _norm_gradient(grad, *ctx.saved_tensors)


def norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    y: Tensor = _Norm.apply(x)
    return y if weight is None else y * weight.to(x.dtype)


class _SquaredReluMLP(Function):
    """Squares anew for the gradient, so that of the hidden layer one array is held, not two."""

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


def swiglu_mlp(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, down)


class _RotateHeads(Function):
    """The rows of all queries, then those of all keys, at once.

    In between it computes in fp32, which on a CPU is faster than bf16 element by element.
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
        if q_weight is not None and k_weight is not None:
            normed = x.to(qkv.dtype, copy=True)
            x_q.mul_(q_weight)
            x_k.mul_(k_weight)
        y = _rotate_inplace(x, cos, sin).to(qkv.dtype)
        ctx.save_for_backward(y if normed is None else normed, scale, cos, sin, q_weight, k_weight)
        return y[: ctx.rows].view(q.shape), y[ctx.rows :].view(k.shape), v.contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, scale, cos, sin, q_weight, k_weight = ctx.saved_tensors
        grad = torch.empty_like(saved, dtype=torch.float32)
        grad_q, grad_k = grad[: ctx.rows], grad[ctx.rows :]
        grad_q.view(grads[0].shape).copy_(grads[0])
        grad_k.view(grads[1].shape).copy_(grads[1])
        weight_grads: tuple[Tensor | None, ...] = (None, None)
        if q_weight is None:
            # A turn does not change the length, so that the norm may as well come after it.
            if scale is not None:
                grad = _norm_gradient(grad, saved.float(), scale)
            grad = _rotate_inplace(grad, cos, -sin)
        else:
            _rotate_inplace(grad, cos, -sin)
            normed = saved.float()
            along = (grad * normed).flatten(0, 1)
            rows = ctx.rows * normed.size(1)
            weight_grads = along[:rows].sum(dim=0), along[rows:].sum(dim=0)
            grad_q.mul_(q_weight)
            grad_k.mul_(k_weight)
            grad = _norm_gradient(grad, normed, scale)
        grad_qkv = saved.new_empty(ctx.shape)
        out = grad_qkv.transpose(1, 2).split(ctx.heads, dim=1)
        out[0].copy_(grad[: ctx.rows].view(out[0].shape))
        out[1].copy_(grad[ctx.rows :].view(out[1].shape))
        out[2].copy_(grads[2])
        return grad_qkv, *weight_grads, None, None, None, None


def _rotate_inplace(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate` over whole rows at a time, for contiguous x (..., T, D) in fp32."""
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    return x.mul_(torch.cat((cos, cos), dim=-1)).addcmul_(swapped, torch.cat((-sin, sin), dim=-1))


def split_heads(
    qkv: Tensor, n_head: int, cos: Tensor, sin: Tensor, *,
    normalise: bool, weights: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    q_weight, k_weight = weights or (None, None)
    return _RotateHeads.apply(qkv, q_weight, k_weight, n_head, cos, sin, normalise)


def attends_faster(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> bool:
    """Whether `attend` is faster than torch's flash kernel, or that one can't do it."""
    del v
    return (q.dtype == torch.bfloat16 or dropout > 0) and k.size(2) <= EXPLICIT_ATTENTION_LIMIT


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    new, seen = q.size(2), k.size(2)
    if k.size(1) < q.size(1):
        share = q.size(1) // k.size(1)
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
    future = torch.full((new, seen), float("-inf"), dtype=q.dtype).triu(seen - new + 1)
    scores = torch.baddbmm(  # the scale and the mask cost no pass of their own
        future, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=q.size(-1) ** -0.5
    )  # (B * H, T, seen)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return torch.bmm(weights, v.flatten(0, 1)).view_as(q)


class _CrossEntropy(Function):
    """Computes the gradient along with the loss, some rows at a time.

    So the logits, (N, V) in fp32 and the largest array of all, are never held as a whole.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        w = weight.to(x.dtype)
        total = torch.zeros((), dtype=torch.float32, device=x.device)
        grad_x, grad_w = torch.empty_like(x), torch.zeros_like(weight)
        rows = max(1, LOGITS_AT_ONCE // len(weight))
        for first in range(0, len(x), rows):
            part = slice(first, first + rows)
            counts = targets[part] != IGNORE
            (row,) = counts.nonzero(as_tuple=True)
            target = row, targets[part][row]
            p = F.softmax(x[part] @ w.t(), dim=-1, dtype=torch.float32)
            total -= p[target].clamp_min_(torch.finfo(p.dtype).tiny).log_().sum()
            p[target] -= 1  # the gradient; scatter_add_ would copy all of p to be deterministic
            if len(row) < len(p):
                p[~counts] = 0
            grad = p.to(x.dtype)
            torch.mm(grad, w, out=grad_x[part])
            grad_w += grad.t() @ x[part]
        ctx.save_for_backward(grad_x, grad_w)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_x, grad_w = ctx.saved_tensors
        return grad_x * grad.to(grad_x.dtype), grad_w * grad, None


def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return _CrossEntropy.apply(x, weight, targets)
