"""The CPU kernels and the plain formulas compute the same, in both precisions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.helpers import generator, random_ids, random_model, tiny_config
from tinyllm.models import cpu_kernels, formulas
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model
from tinyllm.models.registry import ARCHITECTURES

# Relative error of a whole array: bf16 has 8 bits, and a kernel rounds several times.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 0.01}
B, T, H, K, D, C, F, V = 3, 12, 4, 2, 16, 32, 44, 61
ANGLES = torch.rand(T, D // 2, generator=generator(3))
TARGETS = random_ids(B * T).index_fill(0, torch.tensor([0, 5]), IGNORE)


class Case(NamedTuple):
    """A formula to compare, how to call it, and the shapes of its tensor arguments.

    Tensors of one dimension are weights of norms, which are fp32 in both precisions.
    """

    name: str
    call: Callable[..., Any]
    shapes: list[tuple[int, ...]]


def heads(normalise: bool) -> Callable[..., object]:
    def call(split_heads: Callable[..., object], qkv: Tensor, *weights: Tensor) -> object:
        cos, sin = ANGLES.cos(), ANGLES.sin()
        return split_heads(qkv, H, cos, sin, normalise=normalise, weights=weights or None)

    return call


DOCUMENTS = random_ids(B, T, vocab_size=2).cumsum(dim=1)


def attention(new: int, n_kv_head: int, masked: bool = False) -> Case:
    """Queries of the newest tokens, with keys and values of all tokens."""

    def call(attend: Callable[..., object], q: Tensor, k: Tensor, v: Tensor) -> object:
        mask = formulas.document_mask(DOCUMENTS[:, -new:], DOCUMENTS, H, q.dtype)
        return attend(q, k, v, 0.0, mask if masked else None)

    shapes: list[tuple[int, ...]] = [(B, H, new, D), (B, n_kv_head, T, D), (B, n_kv_head, T, D)]
    return Case("attend", call, shapes)


CASES = {
    "norm": Case("norm", lambda norm, x: norm(x), [(B, T, C)]),
    "norm with weights": Case("norm", lambda norm, x, w: norm(x, w), [(B, T, C), (C,)]),
    "squared_relu_mlp": Case(
        "squared_relu_mlp", lambda mlp, *inputs: mlp(*inputs), [(B, T, C), (F, C), (C, F)]
    ),
    "swiglu_mlp": Case(
        "swiglu_mlp", lambda mlp, *inputs: mlp(*inputs), [(B, T, C), (2 * F, C), (C, F)]
    ),
    "heads": Case("split_heads", heads(True), [(B, T, 3 * H, D)]),
    "heads with weights": Case("split_heads", heads(True), [(B, T, 3 * H, D), (D,), (D,)]),
    "heads without norms": Case("split_heads", heads(False), [(B, T, 3 * H, D)]),
    "grouped heads": Case("split_heads", heads(True), [(B, T, H + 2 * K, D)]),
    "grouped heads with weights": Case(
        "split_heads", heads(True), [(B, T, H + 2 * K, D), (D,), (D,)]
    ),
    "grouped heads without norms": Case("split_heads", heads(False), [(B, T, H + 2 * K, D)]),
    "attend": attention(T, H),
    "attend to more than the newest": attention(5, H),
    "attend with one query": attention(1, H),
    "attend in groups": attention(T, K),
    "attend in groups to more than the newest": attention(5, K),
    "attend in groups with one query": attention(1, K),
    "attend within documents": attention(T, H, masked=True),
    "attend within documents in groups": attention(T, K, masked=True),
    "attend within documents to more than the newest": attention(5, K, masked=True),
    "cross_entropy": Case(
        "cross_entropy",
        lambda cross_entropy, x, weight: cross_entropy(x, weight.float(), TARGETS),
        [(B * T, C), (V, C)],
    ),
}


def computed(function: Callable[..., Any], case: Case, dtype: torch.dtype) -> list[Tensor]:
    """The results, then the gradients of the inputs; the inputs are the same each time."""
    chance = generator(1)
    inputs = []
    for shape in case.shapes:
        numbers = torch.randn(shape, generator=chance).div_(shape[-1] ** 0.25)
        inputs.append(numbers.to(dtype if len(shape) > 1 else torch.float32).requires_grad_())
    found = case.call(function, *inputs)
    results = found if isinstance(found, tuple) else (found,)
    torch.autograd.backward(
        results, [torch.randn(r.shape, generator=chance).to(r.dtype) for r in results]
    )
    return [*(r.detach() for r in results), *(i.grad for i in inputs if i.grad is not None)]


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_kernel_and_its_formula_agree_forward_and_backward(
    case: Case, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = computed(getattr(cpu_kernels, case.name), case, dtype)
    monkeypatch.setattr(formulas, "uses_cpu_kernels", lambda _: False)
    formula = getattr(formulas, case.name)
    exact, plain = computed(formula, case, torch.float32), computed(formula, case, dtype)
    for ours, theirs, right in zip(written, plain, exact, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert_near(ours, theirs, TOLERANCE[dtype])
        assert_near(ours, right, TOLERANCE[dtype])
        assert_near(theirs, right, TOLERANCE[dtype])


@pytest.mark.parametrize("rows", [(1, 1), (7, 3), (36, 5), (100, 36)])
def test_the_loss_is_the_same_in_parts(
    rows: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["cross_entropy"]
    whole = computed(cpu_kernels.cross_entropy, case, torch.float32)
    monkeypatch.setattr(cpu_kernels, "LOGITS_AT_ONCE", rows[0] * V)
    monkeypatch.setattr(cpu_kernels, "PROBABILITIES_AT_ONCE", rows[1] * V)
    for part, expected in zip(
        computed(cpu_kernels.cross_entropy, case, torch.float32), whole, strict=True
    ):
        assert_near(part, expected, 1e-6)


def test_every_formula_with_a_kernel_is_compared() -> None:
    with_kernel = {name for name, each in vars(formulas).items() if hasattr(each, "__wrapped__")}
    assert with_kernel == {case.name for case in CASES.values()}


def test_on_a_cpu_the_kernel_computes_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(4, C, requires_grad=True)
    assert type(formulas.norm(x).grad_fn).__name__ == "_NormBackward"
    monkeypatch.setattr(formulas, "uses_cpu_kernels", lambda _: False)
    assert type(formulas.norm(x).grad_fn).__name__ != "_NormBackward"


def gradient(model: Model) -> Tensor:
    ids = random_ids(4, 17)
    model.zero_grad()
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_network_has_the_same_gradient_with_both(
    architecture: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(tiny_config(architecture=architecture, n_layer=3))
    exact = gradient(model)
    model.compute_dtype = dtype
    written = gradient(model)
    monkeypatch.setattr(formulas, "uses_cpu_kernels", lambda _: False)
    plain = gradient(model)
    for found in (written, plain):
        assert_near(found, exact, tolerance)
    assert_near(written, plain, tolerance)
