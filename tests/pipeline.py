"""A clone of the working tree, in which tests run the pipeline with `dvc repro`.

One clone runs everything once; tests that change something use copies of it.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tinyllm.common.files import sha256_of
from tinyllm.settings import strict_yaml

SOURCE = Path(__file__).resolve().parents[1]
STAGES = ["download", "tokenize", "split", "train", "evaluate"]
NOT_CLONED = ("corpus/", "reports/", "tests/", "dvc.lock")
OUTPUTS = ("data", "models", "reports", "dvc.lock")
TRACKING = ("mlflow.db", ".tinyllm", "mlartifacts")
SEPARATOR = "\n---\n"
VOCABULARY = ("the", "cat", "sat", "on", "a", "mat", "while", "dog", "ran", "over", "old", "hills")
SMALL: dict[str, object] = {
    "download.source": "path",
    "download.separator": SEPARATOR,
    "tokenize.vocab_size": 300,
    "train.n_layer": 1,
    "train.n_head": 1,
    "train.d_model": 16,
    "train.context_length": 16,
    "train.batch_size": 4,
    "train.max_steps": 6,
    "train.warmup_steps": 1,
    "train.eval_interval": 3,
    "train.eval_tokens": 256,
    "evaluate.batch_size": 8,
    "evaluate.stride": 8,
    "evaluate.prompts": ["the "],
    "evaluate.documents": 4,
    "evaluate.sample_tokens": 8,
    "hardware.device": "cpu",
    "hardware.precision": "fp32",
    "hardware.threads": 1,
}


@dataclass(frozen=True)
class Project:
    """A clone, and the environment of commands in it."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def world(self) -> dict[str, str]:
        """The environment, without the developer's settings of Git, DVC and MLflow."""
        foreign = ("GIT_", "DVC_", "MLFLOW_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(self.root.parent / "no-dvc-config"),
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "dvc-site-cache"),
            "DVC_NO_ANALYTICS": "true",
            **self.environment,
        }

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command here."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.world(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-m", "dvc", *arguments, check=check)

    def repro(self) -> list[str]:
        """Run `dvc repro`. Returns the stages that it ran, in order."""
        return stages_run(self.dvc("repro").stdout)

    def commit(self) -> str:
        """Commit everything. Returns the revision."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "what there is")
        return self.run("git", "rev-parse", "HEAD").stdout.strip()

    def set(self, settings: Mapping[str, object]) -> None:
        """Change settings of params.yaml, named as section.key."""
        path = self.root / "params.yaml"
        params = strict_yaml.load(path.read_text(encoding="utf-8"))
        for name, value in settings.items():
            section, key = name.split(".")
            params[section][key] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        with (self.root / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def outputs(self) -> dict[str, str]:
        """Every output file with its SHA-256."""
        return {
            path.relative_to(self.root).as_posix(): sha256_of(path)
            for name in OUTPUTS
            for path in [self.root / name, *(self.root / name).rglob("*")]
            if path.is_file() and path.name != ".gitignore"
        }

    def runs(self) -> list[Any]:
        """The runs in this project's MLflow store, once all journals have been sent."""
        from mlflow import MlflowClient

        journals = self.root / ".tinyllm" / "journals"
        deadline = time.monotonic() + 60
        while any(journals.iterdir()):
            logs = [log.read_text() for log in journals.rglob("*.log")]
            assert time.monotonic() < deadline, f"MLflow has not received everything: {logs}"
            time.sleep(0.1)
        client = MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments))


def stages_run(output: str) -> list[str]:
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def words(seed: str, documents: int) -> str:
    """Some documents, the same for the same seed."""
    draw = random.Random(seed)
    return SEPARATOR.join(" ".join(draw.choices(VOCABULARY, k=12)) for _ in range(documents))


def clone(root: Path) -> Project:
    """A repository of the working tree, committed or not, with a tiny model and corpus."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        if not name.startswith(NOT_CLONED) and (SOURCE / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, root / name)
    (root / "corpus").mkdir()
    (root / "corpus" / "small.txt").write_text(words("small", 120), encoding="utf-8")
    project = Project(root, {"PYTHONHASHSEED": "1"})
    project.set(SMALL)
    project.run("git", "init", "--quiet")
    project.run("git", "config", "user.name", "Somebody")
    project.run("git", "config", "user.email", "somebody@example.com")
    project.commit()
    return project


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone in which `dvc repro` has run everything once. Don't change it."""
    project = clone(tmp_path_factory.mktemp("pipeline") / "clone")
    assert project.repro() == STAGES
    project.commit()
    project.runs()  # all journals are sent: no process writes here any more
    return project


@pytest.fixture
def copy(ran: Project, tmp_path: Path) -> Project:
    """A copy of that clone to change, with its own MLflow store."""
    root = tmp_path / "copy"
    shutil.copytree(ran.root, root, symlinks=True, ignore=shutil.ignore_patterns(*TRACKING))
    return Project(root)


@pytest.fixture
def quiet(copy: Project) -> Project:
    """The same without MLflow, which saves seconds. (A test checks that this reruns nothing.)"""
    copy.set({"runtime.tracker": "none"})
    return copy


@pytest.fixture
def here(ran: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy with its checkpoints as the current folder, for commands and for this process.

    DVC has recorded the time and size of every file in it.
    """
    root = tmp_path / "copy"
    ignored = shutil.ignore_patterns("mlflow.db", "mlartifacts", "__pycache__")
    shutil.copytree(ran.root, root, symlinks=True, ignore=ignored)
    project = Project(root)
    world = project.world()
    for name in os.environ.keys() - world.keys():
        monkeypatch.delenv(name)
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    assert "up to date" in project.dvc("status").stdout
    return project
