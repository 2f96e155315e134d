"""A colleague's clone gets data, model and experiments without training."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline import Project

KEYS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def colleague(project: Project, root: Path) -> Project:
    """A clone of a project's last commit, in which nothing ran."""
    project.run("git", "clone", "--quiet", str(project.root), str(root))
    return Project(root, project.environment)


def test_a_clone_pulls_from_a_folder_and_runs_nothing(copy: Project, tmp_path: Path) -> None:
    copy.dvc("remote", "add", "--default", "team", str(tmp_path / "store"))
    copy.commit()
    copy.dvc("push")
    other = colleague(copy, tmp_path / "colleague")
    other.dvc("pull")
    assert other.repro() == []
    assert other.outputs() == copy.outputs()
    assert other.run("git", "status", "--porcelain").stdout == ""


def test_repro_pull_downloads_what_is_missing(copy: Project, tmp_path: Path) -> None:
    copy.dvc("remote", "add", "--default", "team", str(tmp_path / "store"))
    copy.commit()
    copy.dvc("push")
    other = colleague(copy, tmp_path / "colleague")
    done = other.dvc("repro", "--pull")
    assert "Running stage" not in done.stdout
    assert other.outputs() == copy.outputs()


@pytest.mark.slow
def test_an_experiment_is_pushed_and_pulled_with_its_model(copy: Project, tmp_path: Path) -> None:
    copy.set({"runtime.tracker": "none"})
    copy.dvc("remote", "add", "--default", "team", str(tmp_path / "store"))
    copy.commit()
    copy.dvc("exp", "run", "--name", "faster", "-S", "train.learning_rate=0.02")
    trained = copy.outputs()
    copy.run("git", "init", "--quiet", "--bare", str(tmp_path / "shared.git"))
    copy.run("git", "push", "--quiet", str(tmp_path / "shared.git"), "HEAD:refs/heads/main")
    copy.dvc("exp", "push", str(tmp_path / "shared.git"), "faster")
    root = tmp_path / "colleague"
    copy.run(
        *("git", "clone", "--quiet", "--branch", "main"), str(tmp_path / "shared.git"), str(root)
    )
    other = Project(root)
    other.dvc("exp", "pull", "origin", "faster")
    other.dvc("exp", "apply", "faster")
    other.dvc("checkout")
    assert {name: digest for name, digest in other.outputs().items() if "models" in name} == {
        name: digest for name, digest in trained.items() if "models" in name
    }


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of Amazon's protocol on loopback, with an empty bucket."""
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3", reason="needs dvc-s3")
    pytest.importorskip("dvc_s3", reason="needs dvc-s3")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bucket")
    yield address
    running.stop()


@pytest.mark.ecosystem
def test_a_clone_pulls_from_s3_and_runs_nothing(copy: Project, s3: str, tmp_path: Path) -> None:
    copy.dvc("remote", "add", "--default", "team", "s3://bucket/tinyllm")
    copy.dvc("remote", "modify", "team", "endpointurl", s3)
    copy.commit()
    copy.dvc("push")
    other = colleague(copy, tmp_path / "colleague")
    other.dvc("pull")
    assert other.repro() == []
    assert other.outputs() == copy.outputs()
    shutil.rmtree(other.root / "models/tinyllm")
    assert "models/tinyllm" in other.dvc("pull", "models/tinyllm", "--force").stdout
