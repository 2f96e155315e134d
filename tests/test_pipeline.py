"""The pipeline as its users run it: `dvc repro`, in a clone of what the developer has.

One clone runs everything once; the tests that change something do so in copies of it.
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

from tinyllm import strict_yaml
from tinyllm.files import read_json, sha256_of

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
    "evaluate.sample_tokens": 8,
    "hardware.device": "cpu",
    "hardware.threads": 1,
}


@dataclass(frozen=True)
class Project:
    """A clone, and how commands see the world in it."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command here, untouched by the developer's own settings of Git, DVC and MLflow."""
        foreign = ("GIT_", "DVC_", "MLFLOW_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(self.root.parent / "no-dvc-config"),
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "dvc-site-cache"),
            "DVC_NO_ANALYTICS": "true",
            **self.environment,
        }
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-m", "dvc", *arguments, check=check)

    def repro(self) -> list[str]:
        """`dvc repro`. Returns the stages that it ran, in order."""
        return stages_run(self.dvc("repro").stdout)

    def commit(self) -> str:
        """Commit all there is. Returns the revision."""
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
        """The runs of this project's MLflow store, once all that was recorded has been sent."""
        from mlflow import MlflowClient

        journals = self.root / ".tinyllm" / "journals"
        deadline = time.monotonic() + 60
        while any(journals.iterdir()):
            logs = [log.read_text() for log in journals.rglob("*.log")]
            assert time.monotonic() < deadline, f"MLflow has not got everything: {logs}"
            time.sleep(0.1)
        client = MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments))


def stages_run(output: str) -> list[str]:
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def words(seed: str, documents: int) -> str:
    """Some documents; of the same seed the same."""
    draw = random.Random(seed)
    return SEPARATOR.join(" ".join(draw.choices(VOCABULARY, k=12)) for _ in range(documents))


def clone(root: Path) -> Project:
    """A repository of what the developer has, committed or not, with a tiny model and corpus."""
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
    """A clone in which `dvc repro` has run everything once; not to be changed."""
    project = clone(tmp_path_factory.mktemp("pipeline") / "clone")
    assert project.repro() == STAGES
    project.commit()
    project.runs()  # all sent: nothing goes on writing here
    return project


@pytest.fixture
def copy(ran: Project, tmp_path: Path) -> Project:
    """A copy of that clone to change, with an MLflow store of its own."""
    root = tmp_path / "copy"
    shutil.copytree(ran.root, root, symlinks=True, ignore=shutil.ignore_patterns(*TRACKING))
    return Project(root)


@pytest.fixture
def quiet(copy: Project) -> Project:
    """The same without MLflow, which saves seconds. (That it reruns nothing is tested below.)"""
    copy.set({"runtime.tracker": "none"})
    return copy


def test_a_clone_gives_a_model_its_scores_and_an_mlflow_run(ran: Project) -> None:
    pipeline = yaml.safe_load((ran.root / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in STAGES:
        for out in pipeline["stages"][stage]["outs"]:
            assert (ran.root / next(iter(out))).exists(), out
    scores = read_json(ran.root / "reports/evaluate/metrics.json")["test"]
    assert 0 < scores["bits_per_byte"] < 8

    (run,) = ran.runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["train.max_steps"] == "6"
    assert run.data.metrics["test/bits_per_byte"] == scores["bits_per_byte"]
    weights = ran.root / "models/tinyllm/model.safetensors"
    assert run.data.tags["tinyllm.model_sha256"] == sha256_of(weights)
    artifacts = ran.root / "mlartifacts" / run.info.run_id / "artifacts"
    assert sha256_of(next(artifacts.rglob("model.safetensors"))) == sha256_of(weights)


def test_a_second_repro_runs_nothing(ran: Project) -> None:
    before = ran.outputs()
    assert ran.repro() == []
    assert ran.outputs() == before


def test_a_setting_reruns_what_depends_on_it(quiet: Project) -> None:
    quiet.set({"train.learning_rate": 0.01})
    assert quiet.repro() == ["train", "evaluate"]


def test_code_reruns_its_stage_and_nothing_after_the_same_output(quiet: Project) -> None:
    before = quiet.outputs()
    quiet.append("stages/split.py", "# another comment\n")
    assert quiet.repro() == ["split"]
    assert {name for name, digest in quiet.outputs().items() if before[name] != digest} == {
        "dvc.lock"
    }


def test_another_document_reruns_everything(quiet: Project) -> None:
    before = read_json(quiet.root / "data/raw/manifest.json")["documents"]
    (quiet.root / "corpus" / "more").mkdir()
    quiet.append("corpus/more/another.txt", words("another", 40))
    assert quiet.repro() == STAGES
    assert read_json(quiet.root / "data/raw/manifest.json")["documents"] == before + 40


def test_how_it_runs_and_is_shown_reruns_nothing(copy: Project) -> None:
    copy.set(
        {
            "runtime.num_workers": 3,
            "runtime.pin_memory": False,
            "runtime.resource_interval": 0.5,
            "runtime.tracker": "none",
            "runtime.experiment": "another",
        }
    )
    assert copy.repro() == []


def test_two_clones_give_the_same_bytes(ran: Project, tmp_path: Path) -> None:
    """Whatever the order of sets, the path, the place, the workers and the tracker."""
    root = tmp_path / "a path with spaces"
    ran.run("git", "clone", "--quiet", str(ran.root), str(root))
    other = Project(root, {"PYTHONHASHSEED": "2", "LC_ALL": "C", "TZ": "Asia/Kolkata"})
    other.run("git", "checkout", "--quiet", "HEAD~1")  # before anything had run
    assert other.outputs() == {}
    other.set({"runtime.num_workers": 2, "runtime.tracker": "none"})
    assert other.repro() == STAGES
    assert other.outputs() == ran.outputs()


@pytest.mark.parametrize(
    "wrong",
    [
        {"train.dropout": 1.5, "train.n_head": 5},
        {"download.source": "nowhere", "evaluate.stride": 1000},
    ],
    ids=["train", "download"],
)
def test_wrong_settings_are_told_and_damage_nothing(
    quiet: Project, wrong: dict[str, object]
) -> None:
    right = (quiet.root / "params.yaml").read_bytes()
    before = quiet.outputs()
    quiet.set(wrong)
    failed = quiet.dvc("repro", check=False)
    assert failed.returncode != 0
    told = failed.stderr.splitlines()
    first = told.index(f"error: params.yaml has {len(wrong)} wrong setting(s):")
    for (key, value), line in zip(wrong.items(), told[first + 1 :], strict=False):
        assert line.startswith(f"{key} = {value!r}: must ")
    assert "Traceback" not in failed.stderr
    assert quiet.outputs() == before

    (quiet.root / "params.yaml").write_bytes(right)
    assert quiet.repro() == []


def test_an_experiment_elsewhere_lands_in_the_same_mlflow_store(copy: Project) -> None:
    base = copy.run("git", "rev-parse", "HEAD").stdout.strip()
    before = copy.outputs()
    done = copy.dvc("exp", "run", "--temp", "--name", "faster", "-S", "train.learning_rate=0.01")
    assert stages_run(done.stdout) == ["train", "evaluate"]
    (run,) = copy.runs()
    assert run.info.run_name == "faster"
    assert run.data.params["train.learning_rate"] == "0.01"
    assert run.data.tags["dvc.experiment"] == "faster"
    assert run.data.tags["dvc.base_revision"] == base
    assert "test/bits_per_byte" in run.data.metrics  # `evaluate` has found the run of `train`
    assert copy.outputs() == before
    assert copy.run("git", "status", "--porcelain").stdout == ""
    assert "faster" in copy.dvc("exp", "list", "--name-only").stdout
