"""Muon for the matrices, AdamW for the rest, as one optimizer.

Muon (https://kellerjordan.github.io/posts/muon/) replaces a matrix's averaged gradient by the
nearest orthogonal matrix, so that every direction in it is learned at the same pace. It computes
what `torch.optim.Muon` computes, but for all matrices of a shape at once.
"""

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tinyllm.training.optimizers.uncompiled import AdamW, Uncompiled

# As in torch.optim.Muon.
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7


class Muon(Uncompiled, Optimizer):
    """Muon for the groups with `"orthogonal": True`, whose weights are matrices; AdamW otherwise.

    Muon's updates are scaled to the size of AdamW's, so that both use the same learning rate and
    weight decay (https://arxiv.org/abs/2502.16982).

    Args:
        momentum: of the averaged gradient of those groups, 0 to below 1.
        dtype: type that the orthogonal matrices are computed in; bf16 is exact enough.
        parts: the rows of each matrix, for weights that hold several. Queries, keys and values
            learn better as three orthogonal matrices than as one (docs/log.md).
        adamw: arguments of AdamW.
    """

    def __init__(
        self, groups: list[dict[str, Any]], momentum: float, dtype: torch.dtype,
        parts: dict[nn.Parameter, list[int]], **adamw: Any,
    ) -> None:  # fmt: skip
        super().__init__(groups, adamw)
        self._parts = parts
        self._adamw = AdamW(self._groups(orthogonal=False), **adamw)
        self.momentum = momentum
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        # torch's returns the closure's result; here there is no closure.
        assert closure is None
        # Shared again at each step, because loading a state replaces them.
        self._adamw.param_groups, self._adamw.state = self._groups(orthogonal=False), self.state
        self._adamw.step()
        for group in self._groups(orthogonal=True):
            self._orthogonal_step(group)

    def _groups(self, *, orthogonal: bool) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group["orthogonal"] == orthogonal]

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        gradients = [weight.grad for weight in weights]
        averages = [self._average(weight) for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, averages, self.momentum)  # Nesterov's look ahead
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        pairs = [
            pair
            for weight, update in zip(weights, ahead, strict=True)
            for pair in zip(self._split(weight, weight), self._split(weight, update), strict=True)
        ]
        pairs.sort(key=lambda pair: wide_shape(pair[0]))
        for (rows, columns), alike in groupby(pairs, key=lambda pair: wide_shape(pair[0])):
            those, updates = zip(*alike, strict=True)
            wide = [u if u.shape == (rows, columns) else u.t() for u in updates]
            steps = orthogonal(torch.stack([u.to(self.dtype) for u in wide]))
            size = 0.2 * math.sqrt(columns)
            for weight, step in zip(those, steps, strict=True):
                step = step if weight.shape == (rows, columns) else step.t()
                weight.add_(step, alpha=-group["lr"] * size)

    def _split(self, weight: nn.Parameter, values: Tensor) -> tuple[Tensor, ...]:
        """Views of the matrices that a weight, or its gradient, consists of."""
        return values.split(self._parts.get(weight, [len(weight)]))

    def _average(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        average: Tensor = state["momentum_buffer"]
        return average


def wide_shape(matrix: Tensor) -> tuple[int, int]:
    """A matrix's shape, transposed if it is taller than wide."""
    rows, columns = matrix.shape
    return min(rows, columns), max(rows, columns)


def orthogonal(x: Tensor) -> Tensor:
    """Approximate the nearest matrices with orthonormal rows by five Newton-Schulz iterations.

    The singular values end between 0.7 and 1.2 rather than at 1, which trains as well.

    Args:
        x: (N, R, C), R at most C.
    """
    a, b, c = COEFFICIENTS
    x = x / x.flatten(1).norm(dim=1).clamp(min=EPS)[:, None, None]
    rows, columns = x.shape[1:]
    if x.dtype == torch.float32 and x.device.type == "cpu" and 2 * columns > 3 * rows:
        return torch.bmm(_iterated(torch.bmm(x, x.transpose(1, 2))), x)
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.transpose(1, 2))  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterated(gram: Tensor) -> Tensor:
    """The matrix that the iterations multiply x by, from x's gram matrix (N, R, R) alone.

    Each iteration is a polynomial of the gram matrix, so only the first and the last product
    involve x: three fifths of the work for a matrix four times as wide as high. In fp32 the result
    agrees to 1e-4. In bf16, or in a GPU's TF32, it explodes: small singular values are squared.
    """
    a, b, c = COEFFICIENTS
    factor = product = gram
    for iteration in range(ITERATIONS):
        if iteration > 0:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = torch.bmm(factor, product) if iteration > 0 else factor
    return product
