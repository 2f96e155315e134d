"""Training that starts from the weights of a model."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import flip_bit, make_documents
from tests.training.distributed.test_processes import SAME, measured, run_ranks
from tests.training.project import (
    INTERVAL,
    SPLIT,
    TOKENIZE,
    TRAIN,
    Stage,
    change,
    checkpoint_steps,
    chosen_by,
    compute_by,
    final_state,
    outputs,
    resumed_at,
    run,
)
from tinyllm.common.files import seal
from tinyllm.data.token_store import read_split
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.folder import WEIGHTS, read_config

OTHER_TEXT = "\n\n".join(make_documents(200, seed=2))


@pytest.fixture(scope="session")
def model(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Path:
    """A trained model's folder. Don't change it."""
    project = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("model") / "project"))
    compute_by(project, chosen_by(pytestconfig))
    run(project, "train", *TRAIN)
    return project / "models/tinyllm"


@pytest.fixture
def base(model: Path, tmp_path: Path) -> Path:
    """A copy of that model."""
    return Path(shutil.copytree(model, tmp_path / "base"))


@pytest.fixture
def further(project: Path, base: Path) -> Path:
    """A project that trains the model further, on the same text."""
    change(project, {"init_from": str(base)})
    return project


def losses(project: Path) -> "pd.Series[float]":
    """The validation loss of each evaluation, by step."""
    table = pd.read_csv(project / "reports/train/evaluations.csv")
    return table.set_index("step")["val_loss"]


def test_the_first_evaluation_is_that_of_the_model(further: Path, model: Path) -> None:
    run(further, "train", *TRAIN)
    before = losses(model.parents[1])
    assert losses(further)[0] == before.min()
    assert losses(further).min() < before.min()


def test_training_starts_fresh_but_for_the_weights(further: Path) -> None:
    """The learning rate warms up again, from step 0."""
    change(further, {"max_steps": "8"})
    run(further, "train", *TRAIN)
    steps = pd.read_csv(further / "reports/train/steps.csv")
    assert list(steps["step"]) == list(range(8))
    assert steps["learning_rate"].iloc[0] < steps["learning_rate"].max() / 4  # warmup_steps: 5


def test_a_killed_training_ends_in_the_same_bytes(further: Path) -> None:
    whole = Path(shutil.copytree(further, further.with_name("whole")))
    run(whole, "train", *TRAIN)
    process = Stage(further, "train", *TRAIN, slow=0.02)
    process.wait_until(lambda: checkpoint_steps(further)[-1:] >= [INTERVAL])
    process.kill()
    assert resumed_at(run(further, "train", *TRAIN)) >= INTERVAL
    assert final_state(further) == final_state(whole)


def test_a_training_resumes_wherever_the_model_is(further: Path, base: Path) -> None:
    run(further, "train", *TRAIN)
    change(further, {"init_from": str(base.rename(base.with_name("moved")))})
    assert "already trained to the end" in run(further, "train", *TRAIN)


def test_other_weights_are_another_training(further: Path, base: Path) -> None:
    run(further, "train", *TRAIN)
    before = outputs(further)
    flip_bit(base / WEIGHTS, -2)
    seal(base)
    printed = run(further, "train", *TRAIN)
    assert "starting from scratch: train.init_from changed" in printed
    assert outputs(further) != before


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(further: Path) -> None:
    change(further, SAME)
    two = [Path(shutil.copytree(further, further.with_name(name))) for name in ("none", "full")]
    run(further, "train", *TRAIN)
    for project in two:
        change(project, {"sharding": project.name})
        run_ranks(project, 2)
        pd.testing.assert_frame_equal(measured(project), measured(further), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("name", "value"), [("context_length", 24), ("context_length", 48), ("dropout", 0.3)]
)
def test_settings_without_weights_may_differ(further: Path, name: str, value: float) -> None:
    change(further, {name: str(value)})
    run(further, "train", *TRAIN)
    assert getattr(read_config(further / "models/tinyllm"), name) == value
    assert losses(further).iloc[-1] < losses(further)[0]


@pytest.mark.slow
def test_its_tokenizer_encodes_another_text(further: Path, base: Path) -> None:
    (further / "corpus" / "a.txt").write_text(OTHER_TEXT)
    run(further, "download", *TOKENIZE[:4])
    run(further, "tokenize", *TOKENIZE)
    run(further, "split", *SPLIT)
    used, theirs = Tokenizer.load(further / "data/tokenizer"), Tokenizer.load(base)
    assert used.encodes_like(theirs)
    text = used.decode(read_split(further / "data/splits/train").tokens)
    assert text.split("<|endoftext|>")[0] in OTHER_TEXT
    run(further, "train", *TRAIN)
    assert losses(further).min() < losses(further)[0]
    # From scratch, the text gets a tokenizer of its own.
    change(further, {"init_from": "scratch"})
    run(further, "tokenize", *TOKENIZE)
    assert not Tokenizer.load(further / "data/tokenizer").encodes_like(theirs)


def error_of(project: Path) -> str:
    """The error of a training that fails and leaves no output."""
    stage = Stage(project, "train", *TRAIN)
    assert stage.wait() == 1 and outputs(project) == {}, stage.printed()
    return stage.printed().splitlines()[-1]


def test_data_of_another_tokenizer_is_an_error(further: Path) -> None:
    Tokenizer.train([OTHER_TEXT], 300).save(further / "data/tokenizer")
    assert "its tokenizer did not encode the data" in error_of(further)


def test_a_corrupt_model_is_an_error(further: Path, base: Path) -> None:
    flip_bit(base / WEIGHTS, -2)
    assert f"{base / WEIGHTS} is corrupt" in error_of(further)


def test_a_model_that_changes_during_the_training_is_an_error(further: Path, base: Path) -> None:
    stage = Stage(further, "train", *TRAIN, slow=0.02)
    stage.wait_for("step  0/")
    flip_bit(base / WEIGHTS, -2)
    seal(base)
    assert stage.wait() == 1 and outputs(further) == {}, stage.printed()
    assert "changed while train ran: " in stage.printed()
    assert f"{base.name}/" in stage.printed()
