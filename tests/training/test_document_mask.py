"""Whole trainings in which attention does not cross documents."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.training.distributed.test_processes import SAME, measured, run_ranks
from tests.training.project import (
    INTERVAL,
    TRAIN,
    Stage,
    change,
    checkpoint_steps,
    final_state,
    outputs,
    resumed_at,
    run,
)
from tinyllm.models.folder import read_config


@pytest.fixture
def masked(project: Path) -> Path:
    """A project with `train.document_mask: true`."""
    change(project, {"document_mask": "true"})
    return project


def test_a_killed_training_ends_in_the_same_bytes_and_differs_from_one_without(
    masked: Path, untouched: dict[str, bytes]
) -> None:
    whole = Path(shutil.copytree(masked, masked.with_name("whole")))
    run(whole, "train", *TRAIN)
    process = Stage(masked, "train", *TRAIN, slow=0.02)
    process.wait_until(lambda: checkpoint_steps(masked)[-1:] >= [INTERVAL])
    process.kill()
    assert resumed_at(run(masked, "train", *TRAIN)) >= INTERVAL
    assert final_state(masked) == final_state(whole)
    weights = "models/tinyllm/model.safetensors"
    assert outputs(masked)[weights] != untouched[weights]
    assert read_config(masked / "models/tinyllm").document_end == 299


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(masked: Path) -> None:
    change(masked, SAME)
    two = [Path(shutil.copytree(masked, masked.with_name(name))) for name in ("none", "full")]
    run(masked, "train", *TRAIN)
    for project in two:
        change(project, {"sharding": project.name})
        run_ranks(project, 2)
        pd.testing.assert_frame_equal(measured(project), measured(masked), rtol=1e-4, atol=0)
