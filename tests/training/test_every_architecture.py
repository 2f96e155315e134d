"""Whole trainings of every architecture: killed, with several processes, and in transformers."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.helpers import random_ids
from tests.training.distributed.test_processes import SAME, measured, run_ranks
from tests.training.project import (
    INTERVAL,
    TRAIN,
    Stage,
    change,
    checkpoint_steps,
    final_state,
    resumed_at,
    run,
)
from tinyllm.models.folder import load_model
from tinyllm.models.registry import ARCHITECTURES

SHAPES = [
    {"n_kv_head": "2", "tie_embeddings": "false"},
    {"n_kv_head": "1", "tie_embeddings": "true"},
]


@pytest.fixture(params=ARCHITECTURES)
def of_each(request: pytest.FixtureRequest, project: Path) -> Path:
    """A project that trains a network of each architecture."""
    change(project, {"architecture": request.param})
    return project


shapes = pytest.mark.parametrize("shape", SHAPES, ids=["", "grouped and tied"])


@shapes
def test_a_killed_training_ends_in_the_same_bytes_and_loads_in_transformers(
    of_each: Path, shape: dict[str, str]
) -> None:
    change(of_each, shape)
    whole = Path(shutil.copytree(of_each, of_each.with_name("whole")))
    run(whole, "train", *TRAIN)
    process = Stage(of_each, "train", *TRAIN, slow=0.02)
    process.wait_until(lambda: checkpoint_steps(of_each)[-1:] >= [INTERVAL])
    process.kill()
    assert resumed_at(run(of_each, "train", *TRAIN)) >= INTERVAL
    assert final_state(of_each) == final_state(whole)

    model, tokenizer = load_model(of_each / "models/tinyllm")
    assert (model.config.n_kv_head, model.config.tie_embeddings) == (
        int(shape["n_kv_head"]), shape["tie_embeddings"] == "true"
    )  # fmt: skip
    ids = random_ids(2, 32, vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        theirs = in_transformers(of_each / "models/tinyllm")(ids).logits
        torch.testing.assert_close(theirs, model.eval()(ids), atol=1e-4, rtol=1e-4)


def in_transformers(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.slow
@shapes
def test_two_processes_train_the_same_model_as_one_with_ddp_and_fsdp(
    of_each: Path, shape: dict[str, str]
) -> None:
    change(of_each, SAME | shape)
    two = [Path(shutil.copytree(of_each, of_each.with_name(name))) for name in ("none", "full")]
    run(of_each, "train", *TRAIN)
    for project in two:
        change(project, {"sharding": project.name})
        run_ranks(project, 2)
        pd.testing.assert_frame_equal(measured(project), measured(of_each), rtol=1e-4, atol=0)
