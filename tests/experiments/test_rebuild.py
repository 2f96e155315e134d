"""A run rebuilt from files in DVC and Git has the same numbers as the original, or is not made."""

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import TRACKING, Project
from tinyllm.common.files import files_in, sha256_of
from tinyllm.compute import Compute
from tinyllm.experiments.rebuild import rebuild
from tinyllm.settings.load import load_params
from tinyllm.tracking.journal import Header, Journal

# Metrics that depend on the machine and the time, which no report contains.
MEASURED = re.compile(r"system/.*|train/tokens_per_second")


@pytest.fixture
def pulled(here: Project, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Project:
    """A folder in which nothing ran: its files are from DVC and Git."""
    shutil.rmtree(".tinyllm")
    shutil.copyfile(empty_database, "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here.root / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return here


def points(project: Project) -> list[tuple[str, int, float]]:
    """Every point in the store, sorted."""
    with closing(sqlite3.connect(project.root / "mlflow.db")) as database:
        return sorted(database.execute("SELECT key, step, value FROM metrics").fetchall())


def runs(project: Project) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments))


def artifacts(project: Project) -> dict[str, str]:
    """Each artifact of the only run and its SHA-256; torch's file is a zip with times."""
    (folder,) = (project.root / "mlartifacts").glob("*/artifacts")
    return {
        str(p.relative_to(folder)): sha256_of(p) for p in files_in(folder) if p.suffix != ".pth"
    }


def inputs(run: Any) -> set[tuple[str, str, str]]:
    return {
        (d.dataset.name, d.dataset.digest, d.dataset.profile) for d in run.inputs.dataset_inputs
    }


@pytest.mark.slow
def test_the_rebuilt_run_equals_the_original(ran: Project, pulled: Project) -> None:
    done = pulled.run("python", "-m", "tinyllm", "rebuild")
    assert "Times, rates and hardware are not known" in done.stdout
    (original,), (rebuilt,) = runs(ran), runs(pulled)
    expected = [point for point in points(ran) if not MEASURED.fullmatch(point[0])]
    assert len(expected) > 6 * 3 + 3 * 8 + 4
    assert points(pulled) == expected
    known = artifacts(ran)
    del known["origin/environment.json"]  # of the machine that trained
    assert artifacts(pulled) == known
    assert inputs(rebuilt) == inputs(original)
    hardware = {f"resolved.{field.name}" for field in fields(Compute)}
    assert original.data.params.keys() - rebuilt.data.params.keys() == hardware
    assert rebuilt.data.params.items() <= original.data.params.items()
    assert rebuilt.info.status == "FINISHED"
    assert rebuilt.data.tags["tinyllm.rebuilt"] == "true"
    same = ("tinyllm.model_sha256", "tinyllm.evaluate", "git.dirty", "mlflow.source.name")
    assert [rebuilt.data.tags[tag] for tag in same] == [original.data.tags[tag] for tag in same]
    commit = pulled.run("git", "rev-parse", "HEAD").stdout.strip()
    assert rebuilt.data.tags["mlflow.source.git.commit"] == commit
    assert rebuilt.info.run_name == f"params.yaml at {commit[:7]}"
    assert f"git checkout {commit}\ndvc repro" in rebuilt.data.tags["mlflow.note.content"]

    again = pulled.run("python", "-m", "tinyllm", "rebuild")
    assert f"MLflow has the run of this model, {rebuilt.info.run_name}" in again.stdout
    assert points(pulled) == expected
    assert len(runs(pulled)) == 1


def test_an_existing_or_deleted_run_is_not_rebuilt(
    ran: Project, pulled: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    shutil.copyfile(ran.root / "mlflow.db", "mlflow.db")
    before = points(pulled)
    assert rebuild() == 0
    (run,) = runs(pulled)
    assert run.info.run_id in capsys.readouterr().out
    MlflowClient().delete_run(run.info.run_id)
    assert rebuild() == 0
    assert "mlflow runs restore" in capsys.readouterr().out
    assert runs(pulled) == []
    assert points(pulled) == before


def test_an_unreachable_store_is_reported_in_one_line(pulled: Project) -> None:
    done = pulled.run(
        *("env", "MLFLOW_TRACKING_URI=http://127.0.0.1:9"),
        *("python", "-m", "tinyllm", "rebuild"),
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: not rebuilt: ") and "127.0.0.1" in line


def test_nothing_is_rebuilt_while_a_stage_runs(pulled: Project) -> None:
    """The stage's run may be the one to rebuild."""
    header = Header(stage="train", name="running")
    settings = load_params(Path("params.yaml")).runtime
    with (
        Journal(header, settings, live=False),
        pytest.raises(ValueError, match="every journal"),
    ):
        rebuild()
    assert [run.info.run_name for run in runs(pulled)] == ["running"]


def change_a_setting(project: Project) -> None:
    project.set({"train.learning_rate": 0.5})


def change_code(project: Project) -> None:
    project.append("stages/train.py", "# another\n")


def change_the_command(project: Project) -> None:
    text = (project.root / "dvc.yaml").read_text()
    (project.root / "dvc.yaml").write_text(text.replace("stages.train ", "stages.train  "))


def lose_the_model(_: Project) -> None:
    shutil.rmtree("models/tinyllm")


def change_a_number(_: Project) -> None:
    """DVC does not detect this change, nor the next."""
    report = Path("reports/train/steps.csv")
    before = report.stat()
    report.write_text(report.read_text().replace("5,", "6,", 1))
    os.utime(report, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_a_score(_: Project) -> None:
    report = Path("reports/evaluate/metrics.json")
    before = report.stat()
    report.write_text(report.read_text().replace("0", "1", 1))
    os.utime(report, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    change_a_setting: "params.yaml",
    change_code: "stages/train.py",
    change_the_command: "train (changed command)",
    lose_the_model: "models/tinyllm",
    change_a_number: "reports/train",
    change_a_score: "reports/evaluate",
}


@pytest.mark.parametrize("change", CHANGES)
def test_files_that_differ_from_dvc_lock_are_not_rebuilt(
    pulled: Project, change: Callable[[Project], None]
) -> None:
    change(pulled)
    if change in (change_a_number, change_a_score):
        assert "up to date" in pulled.dvc("status").stdout
    with pytest.raises(ValueError, match=r"^not rebuilt: ") as error:
        rebuild()
    assert CHANGES[change] in str(error.value)
    assert "\n" not in str(error.value)
    assert runs(pulled) == []
    assert not list(Path().glob(TRACKING[1] + "/journals/*"))


def test_converted_line_endings_are_reported_with_a_fix(pulled: Project) -> None:
    """A clone in which Git converts line endings, of a commit that does not forbid that."""
    for file in Path("tinyllm/data").glob("*.py"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=r"^not rebuilt: .*core\.autocrlf") as error:
        rebuild()
    pulled.run("bash", "-c", str(error.value).split("`")[1])
    assert "up to date" in pulled.dvc("status").stdout
