"""The optimizers by name, and that each of their settings has an effect."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers import random_ids, random_model, tiny_config, train_settings
from tinyllm.training.muon import Muon
from tinyllm.training.optimizer import make_optimizer


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("sgd", torch.optim.SGD),
        ("muon", Muon),
    ],
)
def test_each_name_is_its_optimizer(name: str, kind: type[torch.optim.Optimizer]) -> None:
    optimizer = make_optimizer(random_model(), train_settings(optimizer=name))
    assert type(optimizer) is kind


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Embedding(5, 3))
    optimizer = make_optimizer(model, train_settings(weight_decay=0.3))
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(decay) == len(list(model.parameters())) == 5
    for parameter in model.parameters():
        assert decay[id(parameter)] == (0.3 if parameter.ndim >= 2 else 0.0)


def test_frozen_weights_are_left_alone() -> None:
    model = random_model()
    model.embedding.weight.requires_grad_(False)
    optimizer = make_optimizer(model, train_settings())
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert all(p is not model.embedding.weight for p in held)


def after_steps(**changes: Any) -> torch.Tensor:
    """All weights after a few steps with some settings."""
    model = random_model(tiny_config(n_layer=1))
    optimizer = make_optimizer(model, train_settings(**changes))
    ids = random_ids(4, 17)
    for _ in range(4):
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("adamw", {"betas": [0.5, 0.95]}),
        ("adamw", {"betas": [0.9, 0.5]}),
        ("adamw", {"weight_decay": 0.0}),
        ("adamw", {"learning_rate": 0.02}),
        ("adam", {"betas": [0.5, 0.95]}),
        ("adam", {"betas": [0.9, 0.5]}),
        ("adam", {"weight_decay": 0.0}),
        ("sgd", {"momentum": 0.0}),
        ("sgd", {"weight_decay": 0.0}),
        ("muon", {"betas": [0.5, 0.95]}),
        ("muon", {"momentum": 0.0}),
        ("muon", {"weight_decay": 0.0}),
        ("muon", {"learning_rate": 0.02}),
    ],
)
def test_each_setting_has_an_effect(name: str, change: dict[str, Any]) -> None:
    base = after_steps(optimizer=name)
    assert torch.equal(after_steps(optimizer=name), base)
    assert not torch.equal(after_steps(optimizer=name, **change), base)


def test_decoupled_decay_shrinks_weights_that_have_no_gradient() -> None:
    model = random_model()
    optimizer = make_optimizer(model, train_settings(weight_decay=0.5, learning_rate=0.1))
    before = model.embedding.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.embedding.weight.detach(), before * (1 - 0.1 * 0.5))
