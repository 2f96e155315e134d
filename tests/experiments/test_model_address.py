"""Models are found by folder, DVC revision and MLflow address; what is missing is one line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.generation.terminal import save_small, tinyllm
from tests.helpers import flip_bit
from tests.tracking.helpers import free_port, mlflow_server
from tinyllm.common.files import checksums, read_json, sha256_of
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.experiments.model_address import fetch, load
from tinyllm.models.folder import WEIGHTS

PIPELINE = """
stages:
  train:
    cmd: python -m stages.train --model models/tinyllm
    outs:
    - models/tinyllm
"""


def world(root: Path) -> dict[str, str]:
    """Settings of MLflow, DVC and Git for a project."""
    return {
        "DVC_ROOT": str(root),  # here, so that it is undone after a test that sets it
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "DVC_GLOBAL_CONFIG_DIR": str(root.parent / "no-config"),
        "DVC_SITE_CACHE_DIR": str(root.parent / "site-cache"),
    }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder as the current one."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / "dvc.yaml").write_text(PIPELINE)
    for name in os.environ:
        if name.startswith(("MLFLOW_", "DVC_", "GIT_")):
            monkeypatch.delenv(name)
    for name, value in world(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    return root


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | world(cwd), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def dvc(*arguments: str, cwd: Path) -> str:
    return run(sys.executable, "-m", "dvc", *arguments, cwd=cwd)


def wrong(address: str | None, revision: str | None = None) -> str:
    """The error of a model that can't be loaded: one line."""
    with pytest.raises(ValueError) as raised:
        load(address, revision)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def weights_of(folder: Path) -> str:
    return checksums(folder)[WEIGHTS]


# ----- folders


def test_a_folder_is_copied_whole_with_its_origin(project: Path, tokenizer: Tokenizer) -> None:
    save_small(project / "one", tokenizer)
    origin = fetch("one", None, Path("new/two"))
    assert origin == read_json(Path("new/two/origin.json"))
    assert origin == {"address": str(project / "one"), "sha256": weights_of(project / "one")}
    assert {path.name for path in Path("new/two").iterdir()} - {"origin.json"} == {
        path.name for path in Path("one").iterdir()
    }
    load("new/two")
    assert sha256_of(Path("new/two/origin.json")) == checksums(Path("new/two"))["origin.json"]
    assert fetch("new/two", None, Path("three"))["origin"] == origin


def test_a_folder_is_never_replaced_and_never_half_made(
    project: Path, tokenizer: Tokenizer
) -> None:
    save_small(project / "one", tokenizer)
    (project / "full").mkdir()
    with pytest.raises(ValueError, match="full exists; choose a new folder"):
        fetch("one", None, Path("full"))
    flip_bit(project / "one" / "tokenizer.json", 50)  # a file that generation does not read
    with pytest.raises(ValueError, match=r"one: tokenizer.json is corrupt"):
        fetch("one", None, Path("two"))
    assert not any("two" in path.name for path in project.iterdir())


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "encoding.json"])
def test_a_missing_or_corrupt_file_is_named(project: Path, tokenizer: Tokenizer, name: str) -> None:
    file = save_small(project / "one", tokenizer) / name
    flip_bit(file, 9)
    assert wrong("one").startswith(f"one: {name} is corrupt")
    file.unlink()
    assert wrong("one").startswith(f"one: {name} is missing")


def test_without_an_address_it_is_the_projects_model(project: Path, tokenizer: Tokenizer) -> None:
    assert wrong(None) == "models/tinyllm is missing"
    save_small(project / "models" / "tinyllm", tokenizer)
    load(None)
    assert wrong("modles/tinyllm").startswith("modles/tinyllm: no such folder; ")


# ----- revisions of DVC


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> tuple[Path, list[str]]:
    """A repository of three models: of a commit, an experiment and the next commit."""
    root, digests = tmp_path_factory.mktemp("past") / "project", list[str]()
    root.mkdir()
    (root / "dvc.yaml").write_text(PIPELINE)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=root)
    run("git", "config", "user.name", "Somebody", cwd=root)
    run("git", "config", "user.email", "somebody@example.com", cwd=root)
    dvc("init", "--quiet", cwd=root)
    dvc("remote", "add", "--default", "store", str(root / "store"), cwd=root)
    (root / ".gitignore").write_text("/store\n/copy*\n")
    model = root / "models" / "tinyllm"
    for seed, name in ((1, "first"), (2, "experiment"), (3, "second")):
        shutil.rmtree(model, ignore_errors=True)
        digests.append(weights_of(save_small(model, tokenizer, seed)))
        dvc("commit", "--force", "--quiet", cwd=root)
        if name == "experiment":
            dvc("exp", "save", "--name", "wild-idea", "--force", cwd=root)
        else:
            run("git", "add", "--all", cwd=root)
            run("git", "commit", "--quiet", "--message", name, cwd=root)
    assert len(set(digests)) == 3
    return root, digests


@pytest.fixture
def history(project: Path, past: tuple[Path, list[str]]) -> list[str]:
    """The digests of the three models; a copy of their repository is the project."""
    shutil.rmtree(project / ".dvc")
    shutil.copytree(past[0], project, symlinks=True, dirs_exist_ok=True)
    return past[1]


def test_a_revision_is_a_commit_or_an_experiment(project: Path, history: list[str]) -> None:
    first, experiment, second = history
    commit = run("git", "rev-parse", "HEAD~1", cwd=project)
    origin = fetch("models/tinyllm", "HEAD~1", project / "copy1")
    assert origin == {
        "address": "models/tinyllm", "revision": "HEAD~1", "commit": commit, "sha256": first
    }  # fmt: skip
    assert fetch("models/tinyllm", "wild-idea", project / "copy2")["sha256"] == experiment
    assert fetch("models/tinyllm", "main", project / "copy3")["sha256"] == second


def test_a_model_may_be_only_in_the_remote_storage(project: Path, history: list[str]) -> None:
    dvc("remote", "modify", "store", "url", str(project / "store"), cwd=project)
    run("git", "commit", "--all", "--quiet", "--message", "the remote of this copy", cwd=project)
    dvc("push", "--quiet", cwd=project)
    shutil.rmtree(project / ".dvc" / "cache")
    shutil.rmtree(project / "models")
    assert fetch("models/tinyllm", "HEAD", project / "copy1")["sha256"] == history[-1]
    shutil.rmtree(project / ".dvc" / "cache", ignore_errors=True)
    shutil.rmtree(project / "store")
    assert "neither in DVC's cache nor in its remote storage" in wrong(None, "HEAD")


def test_an_unknown_revision_or_path_is_an_error(project: Path, history: list[str]) -> None:
    del history
    assert wrong(None, "HEAD~9") == (
        "--rev HEAD~9: no commit, branch, tag or experiment has this name"
    )
    assert wrong("models/other", "HEAD").startswith("models/other does not exist at HEAD (")
    assert wrong("/elsewhere", "HEAD") == f"/elsewhere: must be in {project} to have revisions"


@pytest.mark.slow
def test_the_command_generates_from_a_revision(project: Path, history: list[str]) -> None:
    del history
    flags = ("generate", "a", "--max-tokens", "40", "--temperature", "3")
    (project / "below").mkdir()
    old, new = (
        tinyllm(*flags, *revision, cwd=project / "below") for revision in (["--rev", "HEAD~1"], [])
    )
    assert (old.returncode, new.returncode) == (0, 0), (old.stderr, new.stderr)
    assert old.stdout != new.stdout


# ----- MLflow


@pytest.fixture
def store(project: Path, empty_database: Path) -> Any:
    """A client of the project's database."""
    from mlflow import MlflowClient

    shutil.copy(empty_database, project / "mlflow.db")
    return MlflowClient(world(project)["MLFLOW_TRACKING_URI"])


@pytest.fixture
def runs(project: Path, store: Any, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """The ids of a run with a model, which is registered, and of a run without one."""
    experiment = store.create_experiment("some", (project / "mlartifacts").as_uri())
    with_model, without = (store.create_run(experiment).info.run_id for _ in range(2))
    save_small(project / "logged" / "tinyllm", tokenizer, 4)
    store.log_artifacts(with_model, "logged/tinyllm", "model")
    # As MLflow stores a model with artifacts: the folder lies somewhere inside.
    store.log_artifacts(with_model, "logged", "served/artifacts")
    store.create_registered_model("tinyllm")
    store.create_model_version("tinyllm", f"runs:/{with_model}/served", with_model)
    store.set_registered_model_alias("tinyllm", "champion", "1")
    yield with_model, without


def test_addresses_of_mlflow_are_downloaded(project: Path, runs: tuple[str, str]) -> None:
    expected = weights_of(project / "logged" / "tinyllm")
    run_id, _ = runs
    known = {"sha256": expected, "run_id": run_id}
    known["tracking_uri"] = world(project)["MLFLOW_TRACKING_URI"]
    registered = {"name": "tinyllm", "version": "1"}
    for number, (address, facts) in enumerate(
        [
            (f"runs:/{run_id}", {**known, "address": f"runs:/{run_id}/model"}),
            (f"runs:/{run_id}/served", known),
            ("models:/tinyllm@champion", {**known, **registered}),
            ("models:/tinyllm/1", {**known, **registered}),
            ((project / "mlartifacts" / run_id / "artifacts/model").as_uri(), {}),
        ]
    ):
        origin = fetch(address, None, Path(f"copy{number}"))
        assert origin == {"address": address, **origin, **facts}
        assert weights_of(Path(f"copy{number}")) == expected
        assert Path.cwd() == project


def test_what_mlflow_does_not_have_is_an_error(project: Path, runs: tuple[str, str]) -> None:
    _, without = runs
    assert wrong(f"runs:/{without}") == (
        f"runs:/{without}: this run has no model; its status is RUNNING"
    )
    for address in (
        "runs:/0123456789", "models:/tinyllm@none", "models:/other/1", "models:/tinyllm/7",
        f"runs:/{without}/some/path", (project / "nothing").as_uri(),
    ):  # fmt: skip
        assert wrong(address).startswith(f"{address}: ")
    (project / "mlflow.db").rename(project / "other.db")
    assert wrong("runs:/12").endswith("mlflow.db does not exist")
    assert not (project / "mlflow.db").exists()


@pytest.mark.slow
def test_a_server_is_used_and_reported_when_it_is_down(
    project: Path, runs: tuple[str, str]
) -> None:
    port, (run_id, _) = free_port(), runs
    there: dict[str, Any] = {
        "cwd": project,
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
    }
    with mlflow_server(project, port):
        done = tinyllm("fetch", "models:/tinyllm@champion", "copy", **there)
        assert (done.returncode, done.stderr) == (0, b"")
        assert read_json(project / "copy" / "origin.json")["run_id"] == run_id
    done = tinyllm("generate", "a", "--model", f"runs:/{run_id}", **there)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1 and line.startswith(f"error: runs:/{run_id}: ")
