"""The network's operations, where a CPU needs them written for it.

On a CPU every operation reads and writes main memory, and what autograd strings together from
small ones takes as long as the matrix products. Each function here is a plain formula; on a CPU its
gradient is written out, which halves the passes over memory (docs/log.md has the figures).
Elsewhere, and where torch's compiler fuses it by itself, the plain formula runs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

NORM_EPS = 1e-6
IGNORE = -1  # a target that counts for nothing

# In bf16, up to this many tokens, two batched products and a softmax are faster on a CPU than the
# flash kernel, which in fp32 is as fast or faster and holds less; docs/log.md has the figures.
EXPLICIT_ATTENTION_LIMIT = 512
LOGITS_AT_ONCE = 1 << 20  # as fp32 that is 4 MB, which stays in the processor's cache


def _written_out(x: Tensor) -> bool:
    """Whether the functions with a gradient of their own serve: torch compiles the formulas."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


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


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without weights (https://arxiv.org/abs/1910.07467)."""
    if _written_out(x):
        return _Norm.apply(x)
    return F.rms_norm(x, (x.size(-1),), eps=NORM_EPS)


class _MLP(Function):
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


def mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Two products around max(h, 0) squared (https://arxiv.org/abs/2109.08668).

    Args:
        x: (B, T, C).
        up, down: weights, (4 C, C) and (C, 4 C), of x's type.
    """
    if _written_out(x):
        return _MLP.apply(x.flatten(0, 1), up, down).view_as(x)
    return F.linear(F.linear(x, up).relu().square(), down)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (https://arxiv.org/abs/2104.09864): turn each pair of features by its angle.

    Args:
        x: (..., T, D), the first half of D paired with the second.
        cos, sin: of the angles, (T, D / 2).
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class _SplitHeads(Function):
    """In between it computes in fp32, which on a CPU is faster than bf16 element by element."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D), a view
        x = torch.stack((q, k)).float()
        scale = _scale(x)  # before or after: a rotation does not change the length
        y = _rotate_inplace(x.mul_(scale), cos, sin).to(qkv.dtype)
        ctx.save_for_backward(y, scale, cos, sin)
        return y[0], y[1], v.contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        y, scale, cos, sin = ctx.saved_tensors
        _, B, H, T, D = y.shape
        grad_y = torch.stack(grads[:2]).float()
        grad_x = _norm_gradient(grad_y, y.float(), scale)
        grad_qkv = y.new_empty(B, T, 3, H, D)
        out = grad_qkv.permute(2, 0, 3, 1, 4)
        out[:2].copy_(_rotate_inplace(grad_x, cos, -sin))
        out[2].copy_(grads[2])
        return grad_qkv, None, None


def _rotate_inplace(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate` over whole rows at a time, for contiguous x (..., T, D) in fp32."""
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    return x.mul_(torch.cat((cos, cos), dim=-1)).addcmul_(swapped, torch.cat((sin, -sin), dim=-1))


def split_heads(qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys with rotary positions and normalised, and values.

    Args:
        qkv: (B, T, 3, H, D).
        cos, sin: of the angles, (T, D / 2).

    Returns:
        q, k, v, each (B, H, T, D).
    """
    if _written_out(qkv):
        return _SplitHeads.apply(qkv, cos, sin)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    # In fp32, rounded once: the cosines are fp32, and attention takes one type for all three.
    q, k = (norm(rotate(x.float(), cos, sin)).to(v.dtype) for x in (q, k))
    return q, k, v


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Causal attention: (B, H, T, D) for each of q, k, v; k and v may start earlier than q."""
    new, seen = q.size(2), k.size(2)
    explicit = q.dtype == torch.bfloat16 or dropout > 0
    if not (_written_out(q) and explicit and seen <= EXPLICIT_ATTENTION_LIMIT):
        mask = None
        if 1 < new < seen:
            mask = torch.ones(new, seen, dtype=torch.bool, device=q.device).tril(seen - new)
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=new == seen)
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
    """Sum of the cross-entropies of softmax(x @ weight.T), in nats.

    Args:
        x: (N, C).
        weight: of the head (V, C).
        targets: (N,), IGNORE left out.
    """
    if _written_out(x) and torch.is_grad_enabled():
        return _CrossEntropy.apply(x, weight, targets)
    logits = F.linear(x, weight.to(x.dtype)).float()
    return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
