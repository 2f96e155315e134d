"""`dvc repro` and `dvc exp run` train a model further: on the same text, and on another."""

import csv
import shutil
from io import StringIO

import pytest

from tests.pipeline import STAGES, Project, stages_run, words
from tinyllm.common.files import read_json, seal, sha256_of, write_json
from tinyllm.models.folder import WEIGHTS, read_config

BASE = "models/base"
REST = ["tokenize", "train", "evaluate"]  # `split` reads the same tokens


def keep_model(project: Project) -> dict[str, object]:
    """Copy the project's model to BASE, as `tinyllm fetch` does. Returns settings to start from it.

    The corpus of these tests is so small that the vocabulary has fewer tokens than asked for.
    """
    base = project.root / BASE
    shutil.copytree(project.root / "models/tinyllm", base)
    write_json(base / "origin.json", {"address": "models:/tinyllm@champion", "run_id": "0123"})
    return {"train.init_from": BASE, "tokenize.vocab_size": read_config(base).vocab_size}


@pytest.mark.slow
def test_a_model_is_trained_further_on_the_same_text(copy: Project) -> None:
    before = read_json(copy.root / "reports/evaluate/metrics.json")["test"]
    copy.set(keep_model(copy))
    assert copy.repro() == REST
    after = read_json(copy.root / "reports/evaluate/metrics.json")["test"]
    assert after["bits_per_byte"] < before["bits_per_byte"]

    (run,) = copy.runs()
    tags = run.data.tags
    assert tags["tinyllm.init_from_sha256"] == sha256_of(copy.root / BASE / WEIGHTS)
    assert tags["tinyllm.init_from_address"] == "models:/tinyllm@champion"
    assert tags["tinyllm.init_from_run_id"] == "0123"
    assert run.data.params["train.init_from"] == BASE
    assert f"`{BASE}` (" in tags["mlflow.note.content"]  # not in Git: to be copied

    assert copy.repro() == []
    weights = copy.root / BASE / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    seal(copy.root / BASE)
    assert copy.repro() == REST


@pytest.mark.slow
def test_a_model_is_trained_on_another_text_with_its_tokenizer(quiet: Project) -> None:
    before = (quiet.root / "data/tokenizer/vocabulary.tiktoken").read_bytes()
    settings = keep_model(quiet)
    (quiet.root / "corpus" / "small.txt").write_text(words("another", 150), encoding="utf-8")
    changes = [f"-S={name}={value}" for name, value in settings.items()]
    assert stages_run(quiet.dvc("exp", "run", *changes).stdout) == STAGES
    assert (quiet.root / "data/tokenizer/vocabulary.tiktoken").read_bytes() == before
    summary = read_json(quiet.root / "reports/splits.json")
    assert sum(split["documents"] for name, split in summary.items() if name != "text") > 120


@pytest.mark.slow
def test_a_temporary_experiment_sees_a_model_that_dvc_tracks(quiet: Project) -> None:
    quiet.set(keep_model(quiet))
    quiet.dvc("add", BASE)
    quiet.commit()
    quiet.dvc("exp", "run", "--temp", "--name", "further")
    shown = quiet.dvc("exp", "show", "--csv").stdout
    (row,) = [row for row in csv.DictReader(StringIO(shown)) if row["Experiment"] == "further"]
    assert row["train.init_from"] == BASE


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("models/tinyllm", "both a dependency and an output"),
        ("models/missing", "models/missing"),
    ],
)
def test_a_model_that_is_missing_or_made_by_the_training_is_an_error(
    quiet: Project, value: str, message: str
) -> None:
    before = quiet.outputs()
    quiet.set({"train.init_from": value})
    failed = quiet.dvc("repro", check=False)
    assert failed.returncode != 0 and message in failed.stderr
    assert quiet.outputs() == before


def test_a_wrong_shape_is_reported_before_any_work(quiet: Project) -> None:
    quiet.set(keep_model(quiet) | {"train.n_layer": 2, "download.separator": None})
    failed = quiet.dvc("repro", check=False)
    assert f"train.n_layer = 2: must be 1, as in the model {BASE}" in failed.stderr
    assert "Running stage 'tokenize'" not in failed.stdout
