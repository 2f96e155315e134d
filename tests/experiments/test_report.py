"""`tinyllm report` draws a run's page with what only MLflow and Git know."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.test_compare import experiment, git, project
from tests.helpers import ROOT
from tests.report_page.helpers import WEIGHTS, content
from tinyllm.report_page import page

__all__ = ["project"]
pytestmark = pytest.mark.usefixtures("project")

PAGE = Path("reports/index.html")
SCORES = {"bits_per_byte": 1.25, "loss": 2.6, "perplexity": 13.4, "accuracy": 0.45}


def draw_page(folder: Path, **known: Any) -> str:
    """The page of the project's last run, as `evaluate` draws it."""
    html = page.draw(content(folder / "made", **known))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(html)
    return html


def commit_scores(message: str, test_sha256: str = "ab" * 32, **changes: float) -> str:
    Path("reports/evaluate").mkdir(parents=True, exist_ok=True)
    Path("reports/evaluate/scores.json").write_text(json.dumps({"test": SCORES | changes}))
    Path("reports/splits.json").write_text(json.dumps({"test": {"sha256": test_sha256}}))
    git("add", "reports")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


def track(html: str | None = None, **params: str) -> str:
    """A finished run of the page's model in MLflow. Returns its id."""
    from mlflow import MlflowClient

    client = MlflowClient()
    number = client.create_experiment("tinyllm", artifact_location=(Path.cwd() / "a").as_uri())
    tags = {
        "tinyllm.model_sha256": WEIGHTS,
        "mlflow.source.git.commit": git("rev-parse", "HEAD"),
        "git.dirty": "true",
        "mlflow.note.content": "```sh\ngit checkout abc\ndvc repro\n```\n\n4 layers",
    }
    run = str(client.create_run(number, run_name="tall-tree", tags=tags).info.run_id)
    settings = {"download.source": "path", "split.test_fraction": "0.1", "train.n_layer": "4"}
    hardware = {"resolved.device_name": "Fast <Chip>", "resolved.threads": "2"}
    for name, value in {**settings, **hardware, **params}.items():
        client.log_param(run, name, value)
    for step in range(20):
        client.log_metric(run, "train/tokens_per_second", 20_000 + step, step=step)
        client.log_metric(run, "system/process_memory_megabytes", 500 + step, step=step)
    if html is not None:
        Path("sent").mkdir()
        Path("sent/index.html").write_text(html)
        client.log_artifact(run, "sent/index.html", "reports")
    client.set_terminated(run)
    return run


def report(
    *arguments: str, status: int = 0, world: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinyllm", "report", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(world or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == status, done.stderr
    return done


def drawn(*arguments: str) -> dict[str, Any]:
    """The content of the page that the command draws."""
    return page.read(Path(report(*arguments).stdout.strip()).read_text())


def test_the_copy_has_times_hardware_commit_and_further_settings(tmp_path: Path) -> None:
    original = draw_page(tmp_path)
    run = track()
    shown = drawn("-o", "copy.html")
    facts = dict(shown["run"]["facts"])
    assert facts["name"] == "tall-tree" and facts["MLflow run"] == run
    assert facts["commit"] == f"{git('rev-parse', 'HEAD')}, with changes (true)"
    assert facts["tokens per second"] == "20,010 (median)"
    assert facts["memory of the process"] == "519 MB at most"
    assert facts["hardware"] == "Fast <Chip>, 2 threads"
    assert shown["run"]["commands"] == "git checkout abc\ndvc repro"
    assert shown["charts"]["training"][-1]["id"] == "throughput"
    settings = {row["name"]: row for row in shown["settings"]}
    assert settings["download.source"]["changed"] and settings["download.source"]["value"] == "path"
    assert not settings["split.test_fraction"]["changed"]
    assert "Fast &lt;Chip&gt;" in Path("copy.html").read_text()
    assert PAGE.read_text() == original  # the stage's output is as it was


@pytest.mark.slow
def test_the_scores_before_are_those_of_the_last_commit_with_other_ones(tmp_path: Path) -> None:
    draw_page(tmp_path)
    oldest = commit_scores("the oldest", bits_per_byte=1.5)
    commit_scores("one | <before>", accuracy=0.5)
    commit_scores("this run", bits_per_byte=1.192)
    before = drawn()["previous"]
    assert (before["subject"], before["note"]) == ("one | <before>", "")
    rows = {row["name"]: row for row in before["rows"]}
    bits = rows["Bits per byte"]
    assert (bits["before"], bits["now"], bits["change"]) == (
        "1.2500",
        "1.1920",
        "\N{MINUS SIGN}0.0580",
    )
    assert bits["verdict"] == "better"
    accuracy = rows["Accuracy"]
    assert (accuracy["change"], accuracy["verdict"]) == ("\N{MINUS SIGN}2.23 points", "worse")
    assert drawn("--against", oldest[:8])["previous"]["subject"] == "the oldest"


def test_scores_of_another_test_text_are_not_judged(tmp_path: Path) -> None:
    draw_page(tmp_path)
    commit_scores("another text", test_sha256="ef" * 32)
    before = drawn()["previous"]
    assert before["note"] == "The test texts differ, so the scores do not compare."
    assert {row["verdict"] for row in before["rows"]} == {""}


@pytest.mark.slow
def test_a_run_is_drawn_from_its_page_in_mlflow(tmp_path: Path) -> None:
    html = page.draw(content(tmp_path, seed=77))
    run = track(html)
    shown = drawn(run[:8])
    assert shown["settings"][0]["name"] == "seed" and shown["settings"][0]["value"] == "77"
    assert drawn("tall-tree") == shown


@pytest.mark.slow
def test_an_experiment_that_mlflow_lacks_is_drawn_from_git(tmp_path: Path) -> None:
    experiment("only-dvc", 1.1)  # without a page
    assert "only-dvc has no page reports/index.html" in report("only-dvc", status=1).stderr
    html = draw_page(tmp_path, seed=88)
    git("add", "reports")
    experiment("with-page", 1.1)
    assert not PAGE.exists()
    shown = drawn("with-page")
    assert [shown[key] for key in ("scores", "samples")] == [
        page.read(html)[key] for key in ("scores", "samples")
    ]
    assert {row["name"]: row["value"] for row in shown["settings"]}["seed"] == "88"
    assert dict(shown["run"]["facts"])["name"] == "with-page"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "reports/index.html is missing; `dvc repro` draws it"),
        (("nothing",), "nothing: no run has this name or id"),
    ],
)
def test_a_missing_page_or_run_is_one_clear_line(arguments: tuple[str, ...], reason: str) -> None:
    (line,) = report(*arguments, status=1).stderr.strip().splitlines()
    assert line.startswith(f"error: {reason}")


@pytest.mark.slow
def test_a_foreign_page_and_a_foreign_revision_are_one_clear_line(tmp_path: Path) -> None:
    draw_page(tmp_path)
    (line,) = report("--against", "--all", status=1).stderr.strip().splitlines()
    assert line == "error: --against --all: no such revision"
    PAGE.write_text(PAGE.read_text().replace('"scores":', '"others":'))
    (line,) = report(status=1).stderr.strip().splitlines()
    assert line.startswith("error: the content of the page is corrupt: ")
    PAGE.write_text("<p>mine</p>")
    (line,) = report(status=1).stderr.strip().splitlines()
    assert line.startswith("error: reports/index.html: not a report of a run")
