"""The workflows in .github/ run what exists, with few rights, and trust no stranger's text."""

import re
from typing import Any

import pytest

from tests.helpers import ROOT
from tinyllm.settings import strict_yaml

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
COMMENT = ROOT / ".github/workflows/model-comment.yml"
RUNNING = [path for path in WORKFLOWS if path != COMMENT]


def read(path: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = strict_yaml.load(path.read_text(encoding="utf-8"))
    return loaded


def steps(path: Any) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


@each
def test_every_action_is_pinned_to_a_commit(path: Any) -> None:
    for action in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8")):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+(\.\d+)*", action), action


@each
def test_a_strangers_text_never_becomes_shell(path: Any) -> None:
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step


@each
def test_every_job_ends_in_time(path: Any) -> None:
    for job in read(path)["jobs"].values():
        assert job["timeout-minutes"] <= 30


@pytest.mark.parametrize("path", RUNNING, ids=lambda path: path.stem)
def test_what_runs_code_can_only_read(path: Any) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in workflow["on"] and "workflow_run" not in workflow["on"]
    assert not any("permissions" in job for job in workflow["jobs"].values())
    assert "secrets." not in path.read_text(encoding="utf-8")


def test_what_can_comment_runs_no_code_of_the_pull_request() -> None:
    workflow = read(COMMENT)
    assert list(workflow["on"]) == ["workflow_run"]
    assert workflow["on"]["workflow_run"]["workflows"] == [read(COMMENT.with_stem("model"))["name"]]
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    assert not any("uses" in step for step in steps(COMMENT))


@each
def test_the_scripts_exist(path: Any) -> None:
    for step in steps(path):
        for script in re.findall(r"(?<![\w/])\.ci/[\w.]+", step.get("run", "")):
            assert (ROOT / script).is_file(), script
