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


def logits_by(network: Network, ids: torch.Tensor, first: int) -> torch.Tensor:
    """Logits after `first` tokens and after each following one, read one at a time (B, *, V)."""
    cache = network.new_cache(len(ids))
    hidden = [network.hidden(ids[:, :first], cache)]
    hidden += [network.hidden(ids[:, [place]], cache) for place in range(first, ids.size(1))]
    assert cache.length == ids.size(1)
    return network.logits(torch.cat(hidden, dim=1))


@pytest.mark.parametrize("changes", CONFIGS)
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("first", [1, 5, 16])
@torch.no_grad()
def test_the_logits_are_those_of_the_model(
    changes: dict[str, int], batch_size: int, first: int, arithmetic: Arithmetic
) -> None:
    model, ids = random_model(tiny_config(**changes)), random_ids(batch_size, 16)
    network, expected = for_inference(model), model(ids)
    assert distance(logits_by(network, ids, first), expected) < arithmetic.rounding
    assert distance(network.logits(network.hidden(ids)), expected) < arithmetic.rounding


@pytest.mark.parametrize("size", [1e-2, 1e-4])
@torch.no_grad()
def test_the_norms_epsilon_matters_for_small_activations(
    size: float, arithmetic: Arithmetic
) -> None:
    model, ids = random_model(), random_ids(2, 16)
    for name, weight in model.named_parameters():
        if name.startswith(("embedding", "blocks")):
            weight.mul_(size)
    assert distance(logits_by(for_inference(model), ids, 4), model(ids)) < arithmetic.rounding


@torch.no_grad()
def test_the_logits_are_those_of_the_model_in_long_contexts(arithmetic: Arithmetic) -> None:
    model = random_model(tiny_config(context_length=600, n_layer=1))
    ids = random_ids(1, 600)
    assert distance(logits_by(for_inference(model), ids, 580), model(ids)) < arithmetic.rounding


@torch.no_grad()
def test_half_precision_is_as_close_to_the_exact_logits_as_the_model() -> None:
    model, ids = random_model(), random_ids(4, 16)
    model.compute_dtype = torch.float32
    exact = model(ids)
    model.compute_dtype = torch.bfloat16
    network = for_inference(model)
    for found in (logits_by(network, ids, 5), network.logits(network.hidden(ids))):
        assert 0 < distance(found, exact) < 0.03


@torch.no_grad()
def test_kept_sequences_continue_alone(arithmetic: Arithmetic) -> None:
    model, ids = random_model(), random_ids(5, 16)
    network = for_inference(model)
    cache = network.new_cache(5)
    network.hidden(ids[:, :9], cache)
    rows = torch.tensor([3, 1])
    cache.keep(rows)
    hidden = [network.hidden(token, cache) for token in ids[rows, 9:].split(1, dim=1)]
    assert (
        distance(network.logits(torch.cat(hidden, dim=1)), model(ids[rows])[:, 9:])
        < arithmetic.rounding
    )


def test_the_model_is_unchanged_and_passes_are_independent() -> None:
    model: Model = random_model().train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    network = for_inference(model)
    one, two = (network.hidden(random_ids(2, 8, seed=seed)) for seed in (1, 2))
    assert torch.equal(one, network.hidden(random_ids(2, 8, seed=1)))
    assert not torch.equal(one, two)
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
