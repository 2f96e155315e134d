"""Operations that CUDA rejects, tested without a GPU on tensors with a device and type but no data.

These tests need a CUDA build of torch and are skipped with a CPU build, which rejects such tensors.
Run them with `python -m pytest -m cuda_build` in an environment with pip's default torch for Linux.
They can't compute gradients (torch asks CUDA's driver), so the last test uses meta tensors, which
every build supports.
"""

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.helpers import random_ids, tiny_config, train_settings
from tinyllm.generation.network import for_inference
from tinyllm.generation.rows import Rows, penalised
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM
from tinyllm.training.loop import accumulate_gradient, clip_gradient
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

cuda_build = pytest.mark.cuda_build
needs_cuda_build = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason="torch is a CPU build"
)
PRECISIONS = [torch.float32, torch.bfloat16]
ON_CUDA = torch.device("cuda", 0)


@pytest.fixture(params=PRECISIONS, ids=str)
def model(request: pytest.FixtureRequest, architecture: str) -> Iterator[Model]:
    """A model on CUDA without data; other tensors of the test have none either."""
    del architecture  # tiny_config uses it
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = TinyLLM(tiny_config(dropout=0.1)).to(ON_CUDA)
        model.compute_dtype = request.param
        yield model


def give_gradients(model: Model) -> None:
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)


@cuda_build
@needs_cuda_build
@pytest.mark.parametrize("training", [True, False])
def test_the_network_and_its_loss_run(model: Model, training: bool) -> None:
    model.train(training)
    ids = random_ids(4, 16).to(ON_CUDA, non_blocking=True)
    logits, loss = model(ids), model.loss(ids, ids)
    assert (logits.device, logits.dtype, logits.shape) == (ON_CUDA, torch.float32, (4, 16, 61))
    assert (loss.device, loss.dtype, loss.shape) == (ON_CUDA, torch.float32, ())


@cuda_build
@needs_cuda_build
@pytest.mark.parametrize("name", ["adamw", "adam", "muon"])  # torch's fused SGD needs data
def test_a_step_is_clipped_and_its_state_is_restored(model: Model, name: str) -> None:
    state = TrainState(model, make_optimizer(model, train_settings(optimizer=name)))
    give_gradients(model)
    assert clip_gradient(model, 1.0).device == ON_CUDA
    state.optimizer.step()
    tensors = {name: torch.empty_like(each, device="cpu") for name, each in state.tensors().items()}
    state.restore(tensors, {**state.facts(), "best_loss": 1.0})
    placed = [each for key, each in state.tensors().items() if key.startswith(("model", "optim"))]
    assert {each.device for each in placed} == {ON_CUDA}
    give_gradients(model)
    state.optimizer.step()
    state.optimizer.zero_grad()


@cuda_build
@needs_cuda_build
@torch.no_grad()
def test_texts_are_generated_with_a_cache(model: Model) -> None:
    rows = Rows(for_inference(model.eval()), random_ids(4, 5).tolist())
    rows.append([1, 2, 3, 4])
    rows.keep([0, 2])
    rows.append([5, 6])
    assert (rows.logits.device, rows.logits.dtype) == (ON_CUDA, torch.float32)
    reduced = penalised(rows.logits, torch.zeros_like(rows.logits, dtype=torch.bool), 1.2)
    assert (reduced.device, reduced.shape) == (ON_CUDA, rows.logits.shape)


@pytest.mark.usefixtures("architecture")
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "muon"])
def test_a_whole_step_runs_without_data(name: str, dtype: torch.dtype) -> None:
    """Types and shapes of a GPU's formulas, their gradient and the optimizer's step."""
    model = TinyLLM(tiny_config(dropout=0.1)).to("meta")
    model.compute_dtype = dtype
    optimizer = make_optimizer(model, train_settings(optimizer=name))
    ids = random_ids(6, 17)
    loss = accumulate_gradient(model, ids[:, :-1], ids[:, 1:], 2)
    assert loss.is_meta and clip_gradient(model, 1.0).is_meta
    for weight in model.parameters():
        assert weight.grad is not None and weight.grad.dtype == torch.float32
    optimizer.step()
