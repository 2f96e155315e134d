"""The model is in MLflow once, with its scores, its code and what serving needs, and no pickle."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.serving.evaluations import Evaluations, evaluate_settings, files_of, logged_models
from tests.test_pipeline_file import ROOT, tree_of
from tests.tracking.helpers import PYTHON, Project
from tinyllm.serving import record
from tinyllm.tracking.outbox import sync


def mlmodel(folder: Path) -> Any:
    return yaml.safe_load((folder / "MLmodel").read_text())


def test_a_run_has_its_model_with_test_scores_and_data(
    project: Project, evaluations: Evaluations, artifacts: Path
) -> None:
    evaluations.record(sample_tokens=30, temperature=0.5)
    assert sync(0) == 0
    (run,), (model,) = project.runs().values(), logged_models()
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert (model.name, str(model.status)) == ("model", "READY")
    assert model.source_run_id == run.info.run_id
    scores = {metric.key: metric for metric in model.metrics}
    assert scores.keys() == {"test/bits_per_byte", "test/loss"}
    (data,) = run.inputs.dataset_inputs
    for name, metric in scores.items():
        assert metric.value == run.data.metrics[name]
        assert (metric.dataset_name, metric.dataset_digest) == (
            data.dataset.name,
            data.dataset.digest,
        )
    assert len(project.points(run)) == 3  # each score is one point of the run
    note = model.tags["mlflow.note.content"]
    assert f"models:/{model.model_id}" in note and "bits per byte" in note

    folder = artifacts / "models" / model.model_id / "artifacts"
    signature = mlmodel(folder)["signature"]
    assert [column["name"] for column in json.loads(signature["inputs"])] == ["prompt"]
    defaults = {param["name"]: param["default"] for param in json.loads(signature["params"])}
    assert defaults == {
        "max_new_tokens": 30, "temperature": 0.5, "top_k": 50, "top_p": None, "seed": None,
        "stop": [],
    }  # fmt: skip
    assert json.loads((folder / "input_example.json").read_text())["inputs"]["prompt"]
    assert not [name for name in files_of(folder) if name.endswith((".pkl", ".pickle", ".pth"))]


def test_its_requirements_are_pinned_and_are_what_its_code_imports(
    evaluations: Evaluations, artifacts: Path
) -> None:
    evaluations.record()
    assert sync(0) == 0
    (requirements,) = artifacts.glob("models/*/artifacts/requirements.txt")
    lines = requirements.read_text().split()
    assert all("==" in line and "+" not in line for line in lines)
    names = {line.partition("==")[0] for line in lines}
    code = requirements.parent / "code"
    found = {path.relative_to(code).as_posix() for path in code.rglob("*.py")}
    assert found == set(record.code())
    imported = set[str]()
    for node in (node for name in found for node in tree_of(Path(name)).body):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    packages = {name.split(".")[0] for name in imported}
    others = packages - sys.stdlib_module_names - {"tinyllm", "pandas"}  # MLflow needs pandas
    assert others == names


LOAD = """
import sys
import mlflow

model = mlflow.pyfunc.load_model(sys.argv[1])
params = {"max_new_tokens": 4, "temperature": 0.0}
print(repr(model.predict(["the", "a"], params=params)))
print(repr("".join(model.predict_stream({"prompt": "the"}, params=params))))
import tinyllm
print(tinyllm.__file__)
"""


def test_it_loads_with_its_own_code_and_without_unpickling(
    project: Project, evaluations: Evaluations, tmp_path: Path
) -> None:
    evaluations.record()
    assert sync(0) == 0
    (run,) = project.runs().values()
    done = subprocess.run(
        [PYTHON, "-P", "-c", LOAD, f"runs:/{run.info.run_id}/model"],
        cwd=tmp_path,
        env={
            "MLFLOW_TRACKING_URI": f"sqlite:///{project.root / 'mlflow.db'}",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    predicted, streamed, file = done.stdout.splitlines()
    first, second = eval(predicted, {})  # noqa: S307 (a list of strings)
    assert first and isinstance(second, str)
    assert eval(streamed, {}) == first  # noqa: S307
    assert "/code/tinyllm/" in file and str(ROOT) not in file


def test_a_journal_sent_twice_logs_one_model(project: Project, evaluations: Evaluations) -> None:
    from mlflow import MlflowClient

    folder = evaluations.record(register_as="tiny")
    shutil.copytree(folder, kept := project.root / "kept")
    assert sync(0) == 0
    (first,) = logged_models()
    MlflowClient().create_logged_model(  # as if MLflow had answered the first call too late
        first.experiment_id, name="model", source_run_id=first.source_run_id, tags=first.tags
    )
    for _ in range(2):
        shutil.rmtree(project.root / ".tinyllm" / "sent")
        shutil.copytree(kept, folder)  # as if it had never been sent
        assert sync(0) == 0
    assert [model.model_id for model in logged_models()] == [first.model_id]
    (run,) = project.runs().values()
    assert len(run.outputs.model_outputs) == 1
    assert len(logged_models()[0].metrics) == 2
    assert len(project.points(run)) == 3


def test_evaluating_a_model_again_logs_no_second_one(
    project: Project, evaluations: Evaluations
) -> None:
    for _ in range(2):
        evaluations.record()
        assert sync(0) == 0
    evaluations.record(seed=2)
    assert sync(0) == 0
    assert len(project.runs()) == len(logged_models()) == 2


def test_an_edited_module_does_not_change_a_recorded_model(
    evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some editors write into the file that a link would share."""
    shutil.copytree(ROOT / "tinyllm", tmp_path / "tinyllm")
    monkeypatch.setattr(record, "ROOT", tmp_path)
    folder = evaluations.record()
    with (tmp_path / record.SCRIPT).open("a") as file:
        file.write("broken(")
    (kept,) = folder.rglob("script.py")
    assert kept.read_text() == (ROOT / record.SCRIPT).read_text()


def test_what_cannot_be_recorded_does_not_stop_the_stage(
    evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "PACKAGES", ("no-such-package",))
    evaluations.record()
    assert "MLflow will not receive the model of this run" in capsys.readouterr().err
    assert sync(0) == 0
    assert logged_models() == []


def test_the_longest_text_by_default_is_one_that_a_request_may_have() -> None:
    found = record.signature(evaluate_settings(sample_tokens=1_000_000))
    (longest,) = [each["default"] for each in found["params"] if each["name"] == "max_new_tokens"]
    assert longest == 10_000
