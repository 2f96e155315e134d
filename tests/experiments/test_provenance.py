"""A run's page shows the true origin of the run, in real repositories."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides

from tests.tracking.helpers import PYTHON, Project
from tinyllm.experiments.provenance import Provenance, hydra, provenance
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import flatten

PIPELINE = """
stages:
  train:
    cmd: cp params.yaml seen.yaml
    deps: [code.py]
    params: [train, evaluate]
    outs: [{seen.yaml: {cache: false}}]
"""
SETTINGS = """
train:
  learning_rate: 0.003
  optimizer: adamw
  decay_steps: null
evaluate:
  prompts: ["Return "]
"""


def git(*arguments: str, folder: Path | None = None) -> str:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a pipeline of one stage, which is also the current folder."""
    monkeypatch.setenv("PATH", str(Path(PYTHON).parent), prepend=os.pathsep)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    (project.root / ".dvc").rmdir()
    files = {"params.yaml": SETTINGS, "dvc.yaml": PIPELINE, "code.py": "x = 1\n"}
    for name, content in {**files, ".gitignore": "/mlflow.db\n/seen.yaml\n"}.items():
        (project.root / name).write_text(content)
    git("init", "--quiet")
    subprocess.run(["dvc", "init", "--quiet"], check=True)
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    return project.root


def test_a_clean_commit(repository: Path) -> None:
    origin = provenance()
    assert origin.commit == git("rev-parse", "HEAD")
    assert not origin.dirty
    assert origin.command() == f"git checkout {origin.commit}\ndvc repro"
    assert origin.tags() == {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": origin.commit,
        "git.dirty": "false",
    }
    assert origin.as_origin().name == f"params.yaml at {origin.commit[:7]}"
    # The pipeline's own outputs are no change.
    (repository / "reports").mkdir()
    (repository / "reports" / "metrics.json").write_text("{}")
    (repository / "dvc.lock").write_text("{}")
    git("add", ".")
    assert not provenance().dirty


def test_the_note_reproduces_settings_and_code(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Runs its commands in a clone, as a user would."""
    prompts = ["it's a, [list]\n", 'C:\\temp\\ "x"', "${train.optimizer} $HOME `x` \\${y}", "é▶"]
    changed = strict_yaml.load(SETTINGS)
    changed["train"] |= {"learning_rate": 1e-05, "optimizer": "sgd", "decay_steps": 100}
    changed["evaluate"]["prompts"] = prompts
    changes = [f"{key}={hydra(value)}" for key, value in flatten(changed).items()]
    apply_overrides(repository / "params.yaml", changes)
    (repository / "code.py").write_bytes(b"x = 2\r\n\xff\0")
    (repository / "new.py").write_text("y = 1\n")

    origin = provenance()
    assert origin.dirty
    assert origin.changed == ["code.py", "params.yaml"]
    assert origin.settings == flatten(changed)
    name = "learning_rate=1e-05 optimizer=sgd decay_steps=100 + changed code"
    assert origin.as_origin().name == name
    note = origin.as_origin().note("A title")
    assert "`new.py`: not in Git" in note

    clone = tmp_path_factory.mktemp("clone")
    git("clone", "--quiet", str(repository), str(clone))
    (clone / "changes.patch").write_bytes(origin.patch)
    command = note.split("```")[1].removeprefix("sh")
    subprocess.run(["bash", "-e", "-c", command], cwd=clone, check=True, capture_output=True)
    assert strict_yaml.load((clone / "seen.yaml").read_text(encoding="utf-8")) == changed
    assert (clone / "code.py").read_bytes() == b"x = 2\r\n\xff\0"


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -3, 1e-05, 1e20, 0.1, [], [1, 2], [0.9, 0.95]),
        *("", " ", "a b", "null", "True", "nan", "1e5", "x=y,z", "[a]", "{a}", "a: b", "#c", "~"),
        *("it's", '"', "\\", "a\\", "\\'", "\\n", "\n\n", "\t", "${x}", "\\${x}", "${oc.env:HOME}"),
        *("é▶", "<|endoftext|>", "1_000", ["a,b", "it's", "pandas==3.1.1", "\\"]),
    ],
)
def test_dvc_reads_the_same_value_of_a_setting(value: Any, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("a:\n  b: 1\n", encoding="utf-8")
    apply_overrides(file, [f"a.b={hydra(value)}"])
    assert strict_yaml.load(file.read_text(encoding="utf-8")) == {"a": {"b": value}}


def test_a_dvc_experiment(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository == Path.cwd()
    monkeypatch.setenv("DVC_EXP_NAME", "tidy-lark")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "abc")
    tags = provenance().tags()
    assert tags["dvc.experiment"] == "tidy-lark"
    assert tags["dvc.base_revision"] == "abc"
    assert provenance().as_origin().name == "tidy-lark"
    apply_overrides(repository / "params.yaml", ["train.optimizer=sgd"])
    assert provenance().as_origin().name == "optimizer=sgd (tidy-lark)"


def test_a_file_name_beyond_ascii(repository: Path) -> None:
    (repository / "naïve file.py").write_text("z = 1\n")
    origin = provenance()
    assert origin.untracked == ["naïve file.py"]
    assert origin.dirty


def test_outside_a_repository(project: Project) -> None:
    assert project.root == Path.cwd()
    origin = provenance()
    assert origin == Provenance(None, [], [], b"", {}, None, None)
    assert origin.command() == "dvc repro"
    assert "git.dirty" not in origin.tags()


def test_new_settings(repository: Path) -> None:
    (repository / "params.yaml").write_text(SETTINGS + "more:\n  x: 1\n")
    assert provenance().settings == {"more.x": 1}


def another_user(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variable of Git's own tests for a repository of another user."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


def no_commit(_: Path, __: pytest.MonkeyPatch) -> None:
    git("checkout", "--quiet", "--orphan", "empty")


def no_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))


def no_answer(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git hangs, as on a file system that hangs."""
    (repository / "bin").mkdir()
    (repository / "bin" / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (repository / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{repository / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("tinyllm.experiments.repository.TIMEOUT", 0.3)


def a_lost_object(repository: Path, _: pytest.MonkeyPatch) -> None:
    lost = git("rev-parse", "HEAD:code.py")
    (repository / ".git" / "objects" / lost[:2] / lost[2:]).unlink()


UNKNOWN: dict[Callable[[Path, pytest.MonkeyPatch], None], str] = {
    another_user: "fatal: detected dubious ownership in repository",
    no_commit: "no commit yet",
    no_git: "git can't be run: No such file or directory",
    no_answer: "git rev-parse took more than",
    a_lost_object: "fatal: unable to read ",
}


@pytest.mark.parametrize("make", UNKNOWN, ids=lambda make: make.__name__)
def test_the_origin_is_unknown_if_git_fails(
    repository: Path,
    make: Callable[[Path, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (repository / "code.py").write_text("x = 2\n")
    head = git("rev-parse", "HEAD")
    make(repository, monkeypatch)
    origin = provenance()
    assert origin.tags()["git.dirty"] == "unknown"
    assert origin.dirty is None
    assert origin.commit == (head if make is a_lost_object else None)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"git.dirty is recorded as unknown for this run. Git: {UNKNOWN[make]}")
    note = origin.as_origin().note("A title")
    assert UNKNOWN[make] in note
    assert "```" not in note  # no command reproduces it


def test_params_yaml_that_settings_cannot_reproduce_is_in_the_patch(repository: Path) -> None:
    (repository / "params.yaml").write_text(SETTINGS.replace("  optimizer: adamw\n", ""))
    origin = provenance()
    assert origin.settings == {}
    assert b"-  optimizer: adamw" in origin.patch
    assert origin.command().endswith("\ndvc repro")


def test_a_setting_of_another_type_has_changed(repository: Path) -> None:
    (repository / "params.yaml").write_text(SETTINGS.replace("null", "1"))
    git("commit", "--quiet", "--all", "-m", "whole")
    (repository / "params.yaml").write_text(SETTINGS.replace("null", "1.0"))
    assert provenance().settings == {"train.decay_steps": 1.0}


def test_a_document_that_is_not_in_git_is_named(repository: Path) -> None:
    """Data may be large: the patch excludes it, but the record names it."""
    (repository / "corpus").mkdir()
    (repository / "corpus" / "mine.txt").write_text("text")
    (repository / "notes.txt").write_text("nothing reads it")
    assert not provenance().dirty
    (repository / "corpus" / "other.txt").write_text("in Git")
    git("add", "corpus/other.txt")
    git("commit", "--quiet", "-m", "a corpus")
    lock = "schema: '2.0'\nstages:\n  download:\n    cmd: x\n    deps:\n    - path: corpus\n"
    (repository / "dvc.lock").write_text(lock)
    origin = provenance()
    assert origin.dirty and [*origin.inputs] == ["corpus/mine.txt"] and origin.patch == b""
    note = origin.as_origin().note("A title")
    assert "`corpus/mine.txt`: neither in Git nor in changes.patch" in note


DOWNLOAD = """
stages:
  download:
    cmd: cat params.yaml > raw
    deps: ["${download.path}"]
    params: [download]
    outs: [{raw: {cache: false}}]
"""


def ignored(repository: Path) -> str:
    write_corpus(repository / "mytext")
    with (repository / ".gitignore").open("a") as file:
        file.write("/mytext\n")
    return "mytext"


def elsewhere(repository: Path) -> str:
    outside = f"../{repository.name}.text"
    write_corpus(repository / outside)
    return outside


def absolute(repository: Path) -> str:
    """In Git, but a clone would not read it there."""
    write_corpus(repository / "mytext")
    return str(repository / "mytext")


def link_to_elsewhere(repository: Path) -> str:
    (repository / "linked").symlink_to(elsewhere(repository))
    return "linked"


def repository_of_its_own(repository: Path) -> str:
    write_corpus(repository / "others/mytext")
    git("init", "--quiet", "others")
    git("add", ".", folder=repository / "others")
    git("commit", "--quiet", "-m", "theirs", folder=repository / "others")
    with (repository / ".git/info/exclude").open("a") as file:
        file.write("others\n")
    return "others/mytext"


def write_corpus(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("text")


def commit_and_run(repository: Path, path: str, source: str = "path") -> None:
    """Set `download.path`, commit everything, and run a stage that reads it."""
    (repository / "params.yaml").write_text(f"download:\n  source: {source}\n  path: {path}\n")
    (repository / "dvc.yaml").write_text(DOWNLOAD)
    git("add", ".")
    git("commit", "--quiet", "-m", "another corpus")
    subprocess.run(["dvc", "repro", "--quiet"], check=True)


@pytest.mark.parametrize(
    "make",
    [ignored, elsewhere, absolute, link_to_elsewhere, repository_of_its_own],
    ids=lambda make: make.__name__,
)
def test_a_corpus_missing_from_clones_is_named(
    repository: Path, make: Callable[[Path], str]
) -> None:
    path = make(repository)
    commit_and_run(repository, path)
    origin = provenance()
    assert origin.tags()["git.dirty"] == "true"
    named = f"../{repository.name}.text" if make is link_to_elsewhere else path
    (line,) = [
        line for line in origin.as_origin().note("A title").splitlines() if f"`{named}`" in line
    ]
    md5 = strict_yaml.load((repository / "dvc.lock").read_text())["stages"]["download"]["deps"][0]
    assert line == (
        f"`{named}` (4 bytes in 1 file, md5 {md5['md5']} by dvc.lock): neither in Git nor in "
        "changes.patch; copy it there."
    )


def test_a_corpus_that_is_not_read_is_not_recorded(repository: Path) -> None:
    """DVC hashes `download.path` for every source."""
    commit_and_run(repository, ignored(repository), source="docstrings")
    assert not provenance().dirty


def test_files_that_dvc_ignores_in_a_corpus_are_not_recorded(repository: Path) -> None:
    write_corpus(repository / "corpus")
    (repository / ".dvcignore").write_text(".DS_Store\n")
    commit_and_run(repository, "corpus")
    (repository / "corpus/.DS_Store").touch()
    assert not provenance().dirty


def test_a_corpus_tracked_by_dvc_is_pulled(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_corpus(repository / "my text")
    subprocess.run(["dvc", "add", "--quiet", "my text"], check=True)
    remote = tmp_path_factory.mktemp("remote")
    subprocess.run(["dvc", "remote", "add", "--quiet", "--default", "r", remote], check=True)
    commit_and_run(repository, "my text")
    subprocess.run(["dvc", "push", "--quiet"], check=True)
    origin = provenance()
    assert origin.tags()["git.dirty"] == "false"
    note = origin.as_origin().note("A title")
    assert "`my text`: not in Git, but tracked by DVC" in note

    clone = tmp_path_factory.mktemp("clone")
    git("clone", "--quiet", str(repository), str(clone))
    command = note.split("```")[1].removeprefix("sh")
    subprocess.run(["bash", "-e", "-c", command], cwd=clone, check=True, capture_output=True)
    assert (clone / "my text/a.txt").read_text() == "text"

    # The corpus has changed and a stage has read it: DVC tracks other content.
    (repository / "my text/a.txt").write_text("other")
    subprocess.run(["dvc", "repro", "--quiet", "--single-item", "download"], check=True)
    assert provenance().dirty and "my text" in provenance().inputs


def test_a_virtual_environment_in_the_project_is_not_recorded(repository: Path) -> None:
    package = repository / "env" / "lib" / "site-packages" / "numpy"
    package.mkdir(parents=True)
    (package / "core.py").write_text("x = 1\n")
    assert not provenance().dirty


def test_files_that_git_converts_are_named(repository: Path) -> None:
    """Attributes in .git/info, which nothing overrides."""
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/attributes").write_text("*.py text\n")
    (repository / "code.py").write_bytes(b"x = 1\r\n")
    assert git("diff", "--stat") == ""
    origin = provenance()
    assert origin.dirty and [*origin.inputs] == ["code.py"]
    assert "`code.py`: neither in Git nor in changes.patch" in origin.as_origin().note("A title")
