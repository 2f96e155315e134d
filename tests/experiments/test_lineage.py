"""A lineage is complete from MLflow or from DVC, or it lists what is missing."""

import json
import shutil

import pytest
from prov.model import ProvDocument

from tests.experiments.runs_project import only_run
from tests.pipeline import Project
from tinyllm.common.files import sha256_of
from tinyllm.experiments.lineage import Lineage, describe, lineage
from tinyllm.experiments.lineage_prov import prov
from tinyllm.experiments.lineage_report import print_lineage
from tinyllm.experiments.lineage_sources import of_run
from tinyllm.models.folder import WEIGHTS

NO_LICENCE = "corpus, licence: not stated: set download.licence"
STEPS = ("corpus", "data", "tokenizer", "splits", "settings", "code", "environment", "weights")


def test_a_run_in_mlflow_is_enough(tracked: Project) -> None:
    """Neither the model folder nor its data are here any more."""
    run = only_run(tracked)
    weights = sha256_of(tracked.root / "models/tinyllm" / WEIGHTS)
    for name in ("models", "data", "dvc.lock", ".dvc/cache"):
        path = tracked.root / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    found = lineage(run.run_id[:7])
    assert found.missing == [NO_LICENCE]
    assert found.weights["sha256"] == weights
    assert found.environment["torch"] == run.resolved["torch_version"]
    assert found.code["commit"] == run.commit
    assert found.settings["seed"] == 1337
    assert found.corpus["files"].keys() == {"corpus"}


def test_the_projects_model_has_the_lineage_of_its_run(tracked: Project) -> None:
    run, model = lineage(only_run(tracked).run_id), lineage(None)
    for step in STEPS:
        assert getattr(model, step) == getattr(run, step), step
    assert model.scores == pytest.approx(run.scores)
    assert model.places == run.places | {"folder": "models/tinyllm"}
    assert lineage("models/tinyllm") == model


def test_without_a_run_what_only_it_knows_is_missing(tracked: Project) -> None:
    """As after `dvc pull` in another clone."""
    complete = lineage(None)
    (tracked.root / "mlflow.db").unlink()
    found = lineage(None)
    missing = {line.partition(":")[0] for line in found.missing}
    assert missing == {
        "corpus, licence",
        "code, dirty",
        "environment, processor",
        "environment, threads",
        "environment, torch",
        "environment, packages",
        "places, runs",
    }
    for step in ("corpus", "data", "tokenizer", "splits", "weights", "scores"):
        assert getattr(found, step) == getattr(complete, step), step
    head = tracked.run("git", "rev-parse", "HEAD").stdout.strip()
    assert found.code["commit"] == head  # the first one with this dvc.lock
    assert found.settings["seed"] == 1337


def test_an_experiment_of_dvc_has_a_lineage(tracked: Project) -> None:
    """DVC keeps experiments that MLflow does not know, as after `dvc exp pull`."""
    tracked.set({"train.max_steps": 7})  # of the experiment's commit, not of the training
    tracked.dvc("exp", "save", "--name", "saved", "--force")
    tracked.run("git", "checkout", ".")
    found = lineage("saved")
    assert found.title == "saved"
    assert found.weights["sha256"] == sha256_of(tracked.root / "models/tinyllm" / WEIGHTS)
    assert found.places["DVC experiments"] == ["saved"]
    assert "saved" in lineage(None).places["DVC experiments"]


def test_settings_that_differ_from_the_commit_are_listed(tracked: Project) -> None:
    run = only_run(tracked)
    own = tracked.root / "mlartifacts" / run.run_id / "artifacts/origin/params.yaml"
    own.write_text(own.read_text().replace("warmup_steps: 1", "warmup_steps: 2"))
    run.entry.data.params["train.warmup_steps"] = "2"
    found = describe(of_run(run), tracked.root)
    assert found.settings["train.warmup_steps"] == "2 (in the commit: 1)"


def test_the_json_is_valid_prov(tracked: Project) -> None:
    done = tracked.run("python", "-m", "tinyllm", "lineage", "--json")
    content = json.loads(done.stdout)
    document = ProvDocument.deserialize(content=done.stdout)
    again = json.loads(document.serialize() or "")
    assert again["entity"].keys() == content["entity"].keys()
    assert document == ProvDocument.deserialize(content=json.dumps(again))
    known = {*content["entity"], *content["activity"], *content["agent"]}
    relations = ("used", "wasGeneratedBy", "wasDerivedFrom", "wasAssociatedWith")
    for relation in relations:
        for record in content[relation].values():
            assert set(record.values()) <= known, relation
    trained_on = {
        record["prov:entity"]
        for record in content["used"].values()
        if record["prov:activity"] == "tinyllm:train"
    }
    assert "tinyllm:train-split" in trained_on
    assert "tinyllm:test-split" not in trained_on


def test_facts_that_are_unknown_do_not_break_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    empty = Lineage("nothing")
    print_lineage(empty)
    shown = capsys.readouterr().out
    assert all(line in shown for line in empty.missing)
    assert "environment, torch: MLflow has no run that trained this model" in shown
    ProvDocument.deserialize(content=json.dumps(prov(empty)))


def test_an_unknown_name_is_one_line(tracked: Project) -> None:
    done = tracked.run("python", "-m", "tinyllm", "lineage", "nobody", check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "nobody: no run has this name or id" in line
