"""The network's behaviour for its users."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.helpers import (
    ARITHMETICS,
    EXACT,
    Arithmetic,
    assert_same_weights,
    generator,
    random_ids,
    random_model,
    tiny_config,
)
from tinyllm.models.config import IGNORE
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM

pytestmark = pytest.mark.usefixtures("arithmetic", "architecture")
# Grouped heads, and a head tied to the embedding.
SHAPES: list[dict[str, Any]] = [{}, {"n_head": 4, "n_kv_head": 2, "tie_embeddings": True}]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["", "grouped and tied"])

# For tests that do not depend on the arithmetic.
any_arithmetic = pytest.mark.parametrize("arithmetic", ARITHMETICS[:1], ids=str, indirect=True)


def gradient(model: Model) -> torch.Tensor:
    """The gradient of all weights, concatenated."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@shapes
@pytest.mark.parametrize("length", [12, 600])  # attention is computed in two ways
@torch.no_grad()
def test_a_future_token_never_changes_an_earlier_logit(length: int, shape: dict[str, Any]) -> None:
    model = random_model(tiny_config(context_length=length, **shape))
    ids = random_ids(2, length)
    before = model(ids)
    for place in (1, length // 2, length - 1):
        changed = ids.clone()
        changed[:, place:] = (changed[:, place:] + 1) % 61
        after = model(changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert (after[:, place] != before[:, place]).any()


@torch.no_grad()
def test_every_earlier_token_is_seen() -> None:
    model = random_model()
    ids = random_ids(1, 16)
    before = model(ids)[0, -1]
    for place in range(16):
        changed = ids.clone()
        changed[0, place] = (changed[0, place] + 1) % 61
        assert (model(changed)[0, -1] - before).abs().max() > 1e-4


@torch.no_grad()
def test_the_order_of_tokens_matters() -> None:
    model = random_model()
    one, two = model(torch.tensor([[1, 2, 3], [2, 1, 3]]))[:, -1]
    assert (one - two).abs().max() > 1e-3


@torch.no_grad()
def test_the_rows_of_a_batch_are_independent() -> None:
    model = random_model()
    ids = random_ids(4, 16)
    changed = ids.clone()
    changed[1:] = random_ids(3, 16, seed=1)
    assert torch.equal(model(changed)[0], model(ids)[0])


@torch.no_grad()
def test_logits_are_fp32_for_each_token_of_the_vocabulary() -> None:
    model = random_model()
    logits = model(random_ids(3, 7))
    assert logits.shape == (3, 7, 61) and logits.dtype == torch.float32


@torch.no_grad()
def test_half_precision_gives_similar_logits() -> None:
    model = random_model()
    model.compute_dtype = torch.float32
    ids = random_ids(4, 16)
    full = model(ids)
    model.compute_dtype = torch.bfloat16
    half = model(ids)
    # bf16 has 8 bits, an error of 1/256 in each of a few dozen operations.
    assert 0 < (half - full).norm() < 0.03 * full.norm()
    assert all(p.dtype == torch.float32 for p in model.parameters())


# ----- the loss


@shapes
@pytest.mark.parametrize("vocab_size", [61, 1000])
def test_the_initial_loss_is_that_of_a_uniform_guess(
    vocab_size: int, shape: dict[str, Any]
) -> None:
    model = TinyLLM(tiny_config(vocab_size=vocab_size, **shape), generator(1))
    ids = random_ids(8, 17, vocab_size=vocab_size)
    loss = model.loss(ids[:, :-1], ids[:, 1:]).item() / (8 * 16)
    assert loss == pytest.approx(math.log(vocab_size), abs=0.02)


# 64 rows of 20,000 logits are more than are in memory at once.
@pytest.mark.parametrize("vocab_size", [61, 20_000])
@pytest.mark.parametrize("grad", [True, False])
def test_the_loss_is_the_cross_entropy_of_the_logits(vocab_size: int, grad: bool) -> None:
    model = random_model(tiny_config(vocab_size=vocab_size))
    ids = random_ids(4, 17, vocab_size=vocab_size)
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[0, 3:9] = targets[2] = IGNORE
    with torch.set_grad_enabled(grad):
        loss = model.loss(inputs, targets)
    with torch.no_grad():
        logits = model(inputs).double()[targets != IGNORE]
    expected = F.cross_entropy(logits, targets[targets != IGNORE], reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("vocab_size", [61, 20_000])
def test_so_is_its_gradient(vocab_size: int, arithmetic: Arithmetic) -> None:
    model = random_model(tiny_config(vocab_size=vocab_size))
    ids = random_ids(4, 17, vocab_size=vocab_size)
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[0, 3:9] = targets[2] = IGNORE
    logits = model(inputs).flatten(0, 1)
    F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, reduction="sum").backward()
    expected = gradient(model)
    model.zero_grad()
    model.loss(inputs, targets).backward()
    assert (gradient(model) - expected).norm() < arithmetic.rounding * expected.norm()


def test_ignored_targets_do_not_count(arithmetic: Arithmetic) -> None:
    model = random_model()
    ids = random_ids(4, 17)
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[:, 8:] = IGNORE
    loss = model.loss(inputs, targets)
    loss.backward()
    ignored = gradient(model)
    model.zero_grad()
    shorter = model.loss(inputs[:, :8], targets[:, :8])  # without these tokens
    shorter.backward()
    assert loss.item() == pytest.approx(shorter.item(), rel=arithmetic.rounding)
    assert (ignored - gradient(model)).norm() < arithmetic.rounding * ignored.norm()


def test_a_batch_of_ignored_targets_has_no_gradient() -> None:
    model = random_model()
    loss = model.loss(random_ids(2, 16), torch.full((2, 16), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert not gradient(model).any()


# In bf16 rounding hides a step this small; test_cpu_kernels.py compares with fp32.
@pytest.mark.parametrize("arithmetic", EXACT, ids=str, indirect=True)
@shapes
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("length", [16, 600])
def test_the_gradient_is_the_slope_of_the_loss(
    dropout: float, length: int, shape: dict[str, Any]
) -> None:
    config = tiny_config(context_length=length, dropout=dropout, n_layer=1, **shape)
    model = random_model(config).train()
    ids = random_ids(2, length + 1)

    def loss() -> torch.Tensor:
        torch.manual_seed(1)  # the same activations are dropped each time
        return model.loss(ids[:, :-1], ids[:, 1:]) / (2 * length)

    loss().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        steepness = weight.grad.norm().item()
        # Small enough to be linear, and large enough to exceed rounding.
        step = 1e-3 * weight.norm().item() * weight.grad / steepness
        before = weight.detach().clone()
        with torch.no_grad():
            weight.copy_(before + step)
            above = loss().item()
            weight.copy_(before - step)
            below = loss().item()
            weight.copy_(before)
        slope = (above - below) / (2 * step.norm().item())
        # The loss is rounded to about 3e-7, and the step is 4e-3 for the smallest weight.
        assert slope == pytest.approx(steepness, rel=5e-3, abs=2e-4), name


def test_the_gradient_in_half_precision_points_the_same_way() -> None:
    model = random_model()
    ids = random_ids(8, 17)
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        model.compute_dtype = dtype
        model.zero_grad()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        gradients[dtype] = gradient(model)
    full, half = gradients.values()
    assert half.dtype == torch.float32 and not torch.equal(full, half)
    assert F.cosine_similarity(full, half, dim=0) > 0.999


def test_dropout_is_for_training_only() -> None:
    model = random_model(tiny_config(dropout=0.3))
    ids = random_ids(2, 16)
    assert torch.equal(model.eval()(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    torch.manual_seed(1)
    one = model(ids)
    torch.manual_seed(1)
    assert torch.equal(model(ids), one)


# ----- the weights


@any_arithmetic
def test_architectures_of_one_shape_have_similarly_many_weights() -> None:
    C, V, layers = 192, 1024, 4
    model = TinyLLM(tiny_config(vocab_size=V, n_layer=layers, d_model=C))
    assert model.n_parameters == pytest.approx(2 * V * C + layers * 12 * C**2, rel=0.1)
    assert sum(weight.numel() for weight in model.state_dict().values()) == model.n_parameters


@any_arithmetic
def test_grouped_heads_and_a_tied_head_save_weights() -> None:
    C, V, layers = 32, 61, 2
    whole = TinyLLM(tiny_config(n_head=4)).n_parameters
    grouped = TinyLLM(tiny_config(n_head=4, n_kv_head=2)).n_parameters
    assert whole - grouped == layers * 2 * C * C // 2
    assert whole - TinyLLM(tiny_config(n_head=4, tie_embeddings=True)).n_parameters == V * C


@any_arithmetic
@shapes
def test_every_weight_is_in_one_group_for_the_optimizer(shape: dict[str, Any]) -> None:
    model = random_model(tiny_config(**shape))
    held = [id(weight) for group in model.parameter_groups() for weight in group]
    assert len(set(held)) == len(held)
    assert set(held) == {id(weight) for weight in model.parameters()}


def test_the_initial_weights_depend_on_the_generator() -> None:
    torch.manual_seed(1)
    one = TinyLLM(tiny_config(), generator(7))
    torch.manual_seed(2)
    torch.rand(100)
    assert_same_weights(one, TinyLLM(tiny_config(), generator(7)))
    other = TinyLLM(tiny_config(), generator(8)).state_dict()
    assert any(not torch.equal(weight, other[name]) for name, weight in one.state_dict().items())


def test_the_initial_weights_use_only_their_generator() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    owner = generator(7)
    model = TinyLLM(tiny_config())
    torch.set_rng_state(before)
    model.initialise(owner)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_load_into_another_model() -> None:
    one, two = random_model(), random_model(seed=2)
    two.load_state_dict(one.state_dict())
    ids = random_ids(2, 16)
    assert torch.equal(two(ids), one(ids))


@shapes
def test_every_weight_is_trained(shape: dict[str, Any]) -> None:
    model = random_model(tiny_config(**shape)).train()
    ids = random_ids(16, 17)
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.norm() > 0, name
