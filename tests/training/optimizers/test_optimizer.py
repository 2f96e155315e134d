"""The optimizers by name, and the effect of each of their settings."""

import subprocess
import sys
from typing import Any, get_args

import pytest
import torch

from tests.helpers import (
    ROOT,
    assert_same_weights,
    random_ids,
    random_model,
    tiny_config,
    train_settings,
)
from tinyllm.settings.train import Train
from tinyllm.training.optimizers.registry import OPTIMIZERS, make_optimizer

TORCHS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("name", TORCHS)
def test_each_optimizer_computes_the_same_as_torchs(name: str) -> None:
    """The same bits over some steps, with the state saved and loaded in between."""
    ours, theirs = random_model(), random_model()
    settings = train_settings(optimizer=name, weight_decay=0.1)
    optimizer = make_optimizer(ours, settings)
    shapes = {id(p): i for i, p in enumerate(ours.parameters())}
    weights = list(theirs.parameters())
    groups = [
        {
            "params": [weights[shapes[id(p)]] for p in group["params"]],
            "weight_decay": group["weight_decay"],
        }
        for group in optimizer.param_groups
    ]
    averaging: dict[str, Any] = {"betas": tuple(settings.betas)}
    if name == "sgd":
        averaging = {"momentum": settings.momentum}
    reference = TORCHS[name](groups, lr=settings.learning_rate, fused=True, **averaging)
    for step in range(4):
        for model, each in ((ours, optimizer), (theirs, reference)):
            ids = random_ids(4, 17, seed=step)
            each.zero_grad()
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
            each.step()
        if step == 1:
            state = optimizer.state_dict()
            optimizer = make_optimizer(ours, settings)
            optimizer.load_state_dict(state)
    assert_same_weights(ours, theirs)


def test_params_yaml_can_name_every_optimizer_and_no_other() -> None:
    assert set(get_args(Train.model_fields["optimizer"].annotation)) == OPTIMIZERS.keys()


SCRIPT = """
import sys
import torch
from tests.helpers import random_ids, random_model, train_settings
from tinyllm.training.optimizers.registry import make_optimizer
model = random_model()
optimizer = make_optimizer(model, train_settings(optimizer=sys.argv[1]))
ids = random_ids(4, 17)
model.loss(ids[:, :-1], ids[:, 1:]).backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_step_does_not_import_torchs_compiler(name: str) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT, name], cwd=ROOT, check=True)


def test_only_matrices_decay() -> None:
    model = random_model()  # its norms have weights
    optimizer = make_optimizer(model, train_settings(weight_decay=0.3))
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert {p.ndim for p in model.parameters()} == {1, 2}
    assert len(decay) == len(list(model.parameters()))
    for parameter in model.parameters():
        assert decay[id(parameter)] == (0.3 if parameter.ndim >= 2 else 0.0)


def test_frozen_weights_do_not_change() -> None:
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


def test_decoupled_decay_shrinks_weights_without_gradient() -> None:
    model = random_model()
    optimizer = make_optimizer(model, train_settings(weight_decay=0.5, learning_rate=0.1))
    before = model.embedding.weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.embedding.weight.detach(), before * (1 - 0.1 * 0.5))
