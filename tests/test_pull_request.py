"""`.ci/pull_request.py` reports what a change does to the model, on a real repository."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline import STAGES, Project, clone

pytestmark = pytest.mark.slow

PRESET = """
about: the smallest
takes: seconds
gives: nothing
needs: nothing
settings:
  train:
    max_steps: 4
    learning_rate: 0.02
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with one commit, the base of all changes."""
    made = clone(tmp_path_factory.mktemp("pull-request") / "clone")
    (made.root / "presets" / "smallest.yaml").write_text(PRESET)
    made.commit()
    made.run("git", "tag", "base")
    return made


def report(project: Project, *options: str) -> "subprocess.CompletedProcess[str]":
    """The report on what is committed, against the base."""
    script = [sys.executable, ".ci/pull_request.py", "base", "--preset", "smallest", *options]
    return project.run(*script, check=False)


def begin(project: Project) -> None:
    project.run("git", "checkout", "--quiet", "--force", "-B", "change", "base")


def test_a_change_of_settings_and_then_none(project: Project, tmp_path: Path) -> None:
    begin(project)
    project.set({"train.weight_decay": 0.5, "train.max_steps": 5})
    project.commit()
    done = report(project, "--pictures", str(tmp_path / "pictures"))
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert " bits per byte** of test text: " in text
    assert "| reports/evaluate/metrics.json | test.bits_per_byte |" in " ".join(text.split())
    assert "train.weight_decay | 0.1" in " ".join(text.split())
    assert "| step | before | after |" in text
    assert "but `train.max_steps`, `train.weight_decay` as in" in text
    assert "Ran after: train, evaluate in" in text
    for side in ("before", "after"):
        assert (tmp_path / "pictures" / side / "train" / "loss.png").is_file()
    assert "Loss of the training" in (tmp_path / "pictures/plots/index.html").read_text()

    begin(project)
    project.append("README.md", "\nanother line\n")
    project.commit()
    done = report(project)
    assert done.returncode == 0, done.stderr
    assert "No stage ran again" in done.stdout
    assert "smallest" in done.stdout and "train.max_steps" not in done.stdout


def test_a_change_of_code_runs_its_stages_only(project: Project) -> None:
    begin(project)
    project.append("tinyllm/evaluation/baselines.py", "# another line\n")
    project.commit()
    done = report(project)
    assert done.returncode == 0, done.stderr
    assert "Ran after: evaluate in" in done.stdout
    assert "bits per byte** of test text, as before." in done.stdout


def test_a_broken_change_fails_with_its_error(project: Project) -> None:
    begin(project)
    project.append("stages/split.py", "\nraise ValueError('this is ``` broken')\n")
    project.commit()
    done = report(project)
    assert done.returncode == 1
    assert "**The pipeline fails after this change.**" in done.stdout
    assert "\n````text\n" in done.stdout and "this is ``` broken" in done.stdout
    assert done.stderr.count("Running stage") <= len(STAGES) + 1


def test_a_base_that_fails_is_no_failure_of_the_change(project: Project) -> None:
    begin(project)
    project.append("stages/split.py", "\nraise ValueError('broken')\n")
    project.commit()
    project.run("git", "branch", "--force", "broken")
    project.run("git", "revert", "--no-edit", "HEAD")
    done = project.run(
        *(sys.executable, ".ci/pull_request.py", "broken", "--preset", "smallest"), check=False
    )
    assert done.returncode == 0, done.stderr
    assert "it fails before this change" in done.stdout


def test_an_unknown_base_is_one_line(project: Project) -> None:
    done = project.run(sys.executable, ".ci/pull_request.py", "nowhere", check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: git ") and "Traceback" not in line
