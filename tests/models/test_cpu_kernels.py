"""The kernels written for a CPU and the plain formulas compute the same, in either precision."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.helpers import generator, random_ids, random_model, tiny_config
from tinyllm.models import formulas
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model

# Relative error of a whole array: bf16 has 8 bits, and a kernel rounds a few times.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 0.01}
B, T, H, D, C, V = 3, 12, 2, 16, 32, 61
ANGLES = torch.rand(T, D // 2, generator=generator(3))
TARGETS = random_ids(B * T).index_fill(0, torch.tensor([0, 5]), IGNORE)

KERNELS: dict[str, tuple[Callable[..., object], list[tuple[int, ...]]]] = {
    "norm": (formulas.norm, [(B, T, C)]),
    "squared_relu_mlp": (formulas.squared_relu_mlp, [(B, T, C), (4 * C, C), (C, 4 * C)]),
    "split_heads": (
        functools.partial(
            formulas.split_heads, n_head=H, cos=ANGLES.cos(), sin=ANGLES.sin(), normalise=True
        ),
        [(B, T, 3 * H, D)],
    ),
    "attend": (functools.partial(formulas.attend, dropout=0.0), [(B, H, T, D)] * 3),
    "attend to more than the newest": (
        functools.partial(formulas.attend, dropout=0.0),
        [(B, H, 5, D), (B, H, T, D), (B, H, T, D)],
    ),
    "attend with one query": (
        functools.partial(formulas.attend, dropout=0.0),
        [(B, H, 1, D), (B, H, T, D), (B, H, T, D)],
    ),
    "cross_entropy": (
        lambda x, weight: formulas.cross_entropy(x, weight.float(), TARGETS),
        [(B * T, C), (V, C)],
    ),
}


def tensors(found: object) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def computed(name: str, dtype: torch.dtype) -> list[Tensor]:
    """A kernel's results, then the gradients of its inputs, which are the same each time."""
    function, shapes = KERNELS[name]
    chance = generator(1)
    inputs = [
        torch.randn(shape, generator=chance).div_(shape[-1] ** 0.25).to(dtype).requires_grad_()
        for shape in shapes
    ]
    results = tensors(function(*inputs))
    torch.autograd.backward(
        results, [torch.randn(r.shape, generator=chance).to(r.dtype) for r in results]
    )
    return [*(r.detach() for r in results), *(i.grad for i in inputs if i.grad is not None)]


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_both_kinds_of_kernel_agree_forward_and_backward(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = computed(name, torch.float32)
    written = computed(name, dtype)
    monkeypatch.setattr(formulas, "uses_cpu_kernels", lambda _: False)
    plain = computed(name, dtype)
    for ours, theirs, right in zip(written, plain, exact, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert_near(ours, theirs, TOLERANCE[dtype])
        assert_near(ours, right, TOLERANCE[dtype])
        assert_near(theirs, right, TOLERANCE[dtype])


def gradient(model: Model) -> Tensor:
    ids = random_ids(4, 17)
    model.zero_grad()
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_a_whole_network_has_the_same_gradient_by_both(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(tiny_config(n_layer=3))
    exact = gradient(model)
    model.compute_dtype = dtype
    written = gradient(model)
    monkeypatch.setattr(formulas, "uses_cpu_kernels", lambda _: False)
    plain = gradient(model)
    for found in (written, plain):
        assert_near(found, exact, tolerance)
    assert_near(written, plain, tolerance)
