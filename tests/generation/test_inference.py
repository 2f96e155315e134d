"""The inference network: the model's logits, computed in another way."""

import pytest
import torch

from tests.helpers import Arithmetic, random_ids, random_model, tiny_config
from tinyllm.generation.network import Network, for_inference
from tinyllm.models.model import Model

CONFIGS = [
    {},
    {"n_head": 1, "d_model": 8, "n_layer": 1},
    {"n_head": 4, "d_model": 40, "n_layer": 3, "dropout": 0.5},
    {"n_head": 6, "n_kv_head": 2, "d_model": 48, "tie_embeddings": True},
]

pytestmark = pytest.mark.usefixtures("arithmetic", "architecture")


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    return ((found - expected).norm() / expected.norm()).item()


def logits_by(network: Network, ids: torch.Tensor, *counts: int) -> torch.Tensor:
    """Logits after some tokens at once, more at once, and then after each further one (B, *, V)."""
    cache = network.new_cache(len(ids))
    counts = *counts, *[1] * (ids.size(1) - sum(counts))
    found = [network.next_logits(part.tolist(), cache) for part in ids.split(counts, dim=1)]
    assert cache.length == ids.size(1)
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("changes", CONFIGS)
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("counts", [(1,), (5,), (3, 6), (12,)])
@torch.no_grad()
def test_the_logits_are_those_of_the_model(
    changes: dict[str, int], batch_size: int, counts: tuple[int, ...], arithmetic: Arithmetic
) -> None:
    """Read token by token or several at once, with a cache and without."""
    model, ids = random_model(tiny_config(**changes)), random_ids(batch_size, 16)
    network, expected = for_inference(model), model(ids)
    read = [sum(counts[: number + 1]) - 1 for number in range(len(counts))]
    places = [*read, *range(read[-1] + 1, 16)]
    assert distance(logits_by(network, ids, *counts), expected[:, places]) < arithmetic.rounding
    assert distance(network.logits(network.hidden(ids)), expected) < arithmetic.rounding


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("size", [1e-2, 1e-4])
@torch.no_grad()
def test_the_norms_epsilon_matters_for_small_activations(
    size: float, batch_size: int, arithmetic: Arithmetic
) -> None:
    model, ids = random_model(), random_ids(batch_size, 16)
    for name, weight in model.named_parameters():
        if name.startswith(("embedding", "blocks")):
            weight.mul_(size)
    expected = model(ids)[:, 3:]
    assert distance(logits_by(for_inference(model), ids, 4), expected) < arithmetic.rounding


@torch.no_grad()
def test_the_logits_are_those_of_the_model_in_long_contexts(arithmetic: Arithmetic) -> None:
    model = random_model(tiny_config(context_length=600, n_layer=1))
    ids = random_ids(1, 600)
    expected = model(ids)[:, 579:]
    assert distance(logits_by(for_inference(model), ids, 580), expected) < arithmetic.rounding


@torch.no_grad()
def test_large_activations_do_not_overflow() -> None:
    """Neither exp of the scores nor of the gates; numpy would warn, and warnings are errors."""
    model, ids = random_model(), random_ids(1, 16)
    for name, weight in model.named_parameters():
        if "qkv" in name or "up" in name:
            weight.mul_(300)
    found, expected = logits_by(for_inference(model), ids), model(ids)
    assert found.isfinite().all()
    if model.compute_dtype == torch.float32:
        assert distance(found, expected) < 1e-3


@torch.no_grad()
def test_half_precision_is_as_close_to_the_exact_logits_as_the_model() -> None:
    model, ids = random_model(), random_ids(4, 16)
    model.compute_dtype = torch.float32
    exact = model(ids)
    model.compute_dtype = torch.bfloat16
    network = for_inference(model)
    assert 0 < distance(logits_by(network, ids, 5), exact[:, 4:]) < 0.03
    assert 0 < distance(network.logits(network.hidden(ids)), exact) < 0.03


@pytest.mark.parametrize("kept", [[3, 1], [4]])
@torch.no_grad()
def test_kept_sequences_continue_alone(kept: list[int], arithmetic: Arithmetic) -> None:
    model, ids = random_model(), random_ids(5, 16)
    network = for_inference(model)
    cache = network.new_cache(5)
    network.next_logits(ids[:, :9].tolist(), cache)
    rows = torch.tensor(kept)
    cache.keep(rows)
    found = [network.next_logits(new.tolist(), cache) for new in ids[rows, 9:].split(1, dim=1)]
    expected = model(ids[rows])[:, 9:]
    assert distance(torch.stack(found, dim=1), expected) < arithmetic.rounding


def test_the_model_is_unchanged_and_passes_are_independent() -> None:
    model: Model = random_model().train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    network = for_inference(model)
    one, two = (network.hidden(random_ids(2, 8, seed=seed)) for seed in (1, 2))
    assert torch.equal(one, network.hidden(random_ids(2, 8, seed=1)))
    assert not torch.equal(one, two)
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
