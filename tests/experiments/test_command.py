"""What fails or stops says which command to run: that of DVC, which the library does not know."""

import os
from pathlib import Path

import pytest

from tinyllm.common.errors import Interrupted
from tinyllm.common.files import ROOT, project_root, read_json
from tinyllm.experiments.command import run

COMMANDS = [("", "`dvc repro`"), ("wide-boar", "the same `dvc exp run`")]


@pytest.mark.parametrize(("experiment", "again"), COMMANDS)
def test_an_error_that_another_run_fixes_says_how_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, again: str
) -> None:
    with monkeypatch.context() as environment:
        if experiment:
            environment.setenv("DVC_EXP_NAME", experiment)
        file = tmp_path / "file.json"
        with pytest.raises(ValueError, match=r"file\.json is missing$"):
            read_json(file)
        with pytest.raises(SystemExit) as ended:
            run(lambda: read_json(file))
    assert ended.value.code == f"error: {file} is missing; run {again}"


def test_an_interruption_says_how_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    def stop() -> None:
        raise Interrupted("stopped at step 3, saved")

    with pytest.raises(SystemExit) as ended:
        run(stop)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped at step 3, saved; `dvc repro` resumes from there\n"


def test_any_other_error_is_as_raised() -> None:
    def fail() -> None:
        raise ValueError("train.dropout = 2: must be less than 1")

    with pytest.raises(SystemExit) as ended:
        run(fail)
    assert ended.value.code == "error: train.dropout = 2: must be less than 1"


def test_the_root_is_that_of_the_main_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment in a temporary folder, which has a .dvc of its own, keeps nothing there."""
    temporary = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpx"
    (temporary / ".dvc").mkdir(parents=True)
    (tmp_path / "deep").mkdir()
    found: list[Path] = []
    for folder, variable in ((tmp_path / "deep", ""), (temporary, str(tmp_path))):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_ROOT", variable)
        run(lambda: found.append(project_root()))
    assert found == [tmp_path, tmp_path]


def test_a_second_command_in_one_process_has_the_root_of_its_own_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ROOT, raising=False)
    monkeypatch.chdir(tmp_path)
    run(lambda: None)
    assert project_root() == Path.cwd()
    assert ROOT not in os.environ
