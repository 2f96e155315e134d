"""Training with torch's compiler: the same network, and as exact as without."""

import math
import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers import random_ids, random_model, tiny_config
from tests.training.project import (
    INTERVAL,
    TRAIN,
    Stage,
    change,
    checkpoint_steps,
    final_state,
    resumed_at,
)  # fmt: skip
from tinyllm.model.runtime import cpp_compiler
from tinyllm.training.compiled import compile_training

# For a CPU torch's compiler writes C++; nothing else here needs a compiler, so some have none.
pytestmark = pytest.mark.skipif(
    shutil.which(cpp_compiler()) is None, reason="on a CPU it needs a C++ compiler"
)


def test_a_compiled_training_is_interrupted_and_ends_in_the_same_bytes(
    project: Path, tmp_path: Path
) -> None:
    change(project, {"compile": "true", "micro_batch_size": "2"})
    other = Path(shutil.copytree(project, tmp_path / "other"))
    kernels = project / ".tinyllm" / "compiled"
    whole = Stage(project, "train", *TRAIN, before=forget_place)
    assert whole.wait() == 0 and ", compiled)" in whole.printed(), whole.printed()
    found = sum(1 for _ in kernels.rglob("*.so"))
    assert found

    place = {"TORCHINDUCTOR_CACHE_DIR": str(kernels)}
    process = Stage(other, "train", *TRAIN, slow=0.02, environment=place)
    process.wait_until(lambda: any(step >= INTERVAL for step in checkpoint_steps(other)))
    process.kill()
    change(other, {"compile": "false"})
    stopped = Stage(other, "train", *TRAIN)
    assert stopped.wait() == 1
    assert "compiled was True, is False" in stopped.printed()

    change(other, {"compile": "true"})
    rest = Stage(other, "train", *TRAIN, environment=place)
    assert rest.wait() == 0 and resumed_at(rest.printed()) >= INTERVAL
    assert final_state(other) == final_state(project)
    assert sum(1 for _ in kernels.rglob("*.so")) == found  # nothing was compiled again


def forget_place() -> None:
    """Of the cache, which torch has settled when its modules were imported before the fork."""
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)


def test_the_compiled_gradient_is_the_models_and_scoring_is_as_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    config = tiny_config(n_layer=2)
    plain, compiled = random_model(config).train(), random_model(config).train()
    compile_training(compiled)
    ids = random_ids(2, 9)
    losses = [model.loss(ids[:, :-1], ids[:, 1:]) for model in (plain, compiled)]
    assert math.isclose(*(loss.item() for loss in losses), rel_tol=1e-6)
    for loss in losses:
        loss.backward()
    for (name, weight), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert weight.grad is not None and other.grad is not None
        assert torch.allclose(weight.grad, other.grad, rtol=1e-5, atol=1e-5), name
    assert list(compiled.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(compiled(ids), plain(ids))
