"""Muon: orthogonal updates of the blocks' matrices, AdamW for the rest."""

import copy
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import random_ids, random_model, tiny_config, train_settings
from tinyllm.models.model import Model
from tinyllm.training.optimizers.muon import orthogonal
from tinyllm.training.optimizers.registry import make_optimizer

pytestmark = pytest.mark.usefixtures("arithmetic")


def learn(model: Model, *optimizers: torch.optim.Optimizer, steps: int = 3) -> None:
    for step in range(steps):
        ids = random_ids(4, 17, seed=step)
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()


class SeparateMatrices(torch.optim.Muon):
    """torch's Muon for the blocks' matrices; queries, keys, values are a matrix each."""

    def __init__(self, model: Model, **settings: Any) -> None:
        self.whole = list(model.blocks.named_parameters())
        pieces = [self.split(name, weight.detach()) for name, weight in self.whole]
        self.pieces = [nn.Parameter(piece) for of_one in pieces for piece in of_one]  # views
        super().__init__(self.pieces, **settings)

    def split(self, name: str, values: Tensor) -> tuple[Tensor, ...]:
        return values.chunk(3 if name.endswith("qkv.weight") else 1)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        grads = [self.split(n, p.grad) for n, p in self.whole if p.grad is not None]
        for piece, grad in zip(self.pieces, chain.from_iterable(grads), strict=True):
            piece.grad = grad
        super().step(closure)


def test_it_trains_the_same_weights_as_torchs_muon_and_adamw() -> None:
    settings = train_settings(
        optimizer="muon", learning_rate=0.01, weight_decay=0.2, momentum=0.8,
        embedding_rate_multiplier=2.0,
    )  # fmt: skip
    ours = random_model(tiny_config(architecture="nanochat", n_layer=2))
    theirs = copy.deepcopy(ours)
    optimizer = make_optimizer(ours, settings)
    for group in optimizer.param_groups:
        group["lr"] *= group["rate_multiplier"]
    learn(ours, optimizer)

    muon = SeparateMatrices(
        theirs, lr=0.01, weight_decay=0.2, momentum=0.8, adjust_lr_fn="match_rms_adamw"
    )
    betas = (settings.betas[0], settings.betas[1])
    head = torch.optim.AdamW([theirs.head_weight], lr=0.01, betas=betas, weight_decay=0.2)
    table = theirs.embedding.weight
    embedding = torch.optim.AdamW([table], lr=0.02, betas=betas, weight_decay=0.2)
    learn(theirs, muon, head, embedding)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        # They moved by about 0.03; torch's rounds to bf16 in between.
        torch.testing.assert_close(a, b, rtol=0.0, atol=2e-3)


@pytest.mark.parametrize(
    ("architecture", "weight", "rows"),
    [("qwen3", "attention.qkv", [32, 16, 16]), ("qwen3", "mlp.gate_up", [88, 88]),
     ("nanochat", "attention.qkv", [32, 16, 16])],
)  # fmt: skip
def test_each_matrix_of_a_weight_is_updated_by_as_much(
    architecture: str, weight: str, rows: list[int]
) -> None:
    model = random_model(tiny_config(architecture=architecture, n_layer=1, d_model=32, n_kv_head=1))
    settings = train_settings(optimizer="muon", weight_decay=0.0)
    optimizer = make_optimizer(model, settings)
    matrix = model.blocks[0].get_parameter(f"{weight}.weight")
    before = matrix.detach().clone()
    learn(model, optimizer, steps=1)
    for change in (matrix.detach() - before).split(rows):
        size = change.square().mean().sqrt().item()
        assert size == pytest.approx(0.2 * settings.learning_rate, rel=0.2)


def test_it_resumes_from_its_state() -> None:
    """Saved and loaded as in a checkpoint."""
    model = random_model(tiny_config(n_layer=1))
    optimizer = make_optimizer(model, train_settings(optimizer="muon"))
    learn(model, optimizer)
    other = copy.deepcopy(model)
    resumed = make_optimizer(other, train_settings(optimizer="muon"))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    learn(model, optimizer)
    learn(other, resumed)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 24)])
def test_rows_become_nearly_orthonormal(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(x))
    assert values.min() > 0.6 and values.max() < 1.3


def test_small_directions_survive_fp32() -> None:
    """A wide matrix is iterated with its gram matrix, which squares small singular values."""
    x = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    x = u * torch.logspace(0, -9, 16, dtype=torch.float64) @ v
    torch.testing.assert_close(orthogonal(x.float()).double(), orthogonal(x), rtol=0, atol=1e-3)
