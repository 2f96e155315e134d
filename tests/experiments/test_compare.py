"""`tinyllm compare` lists MLflow's runs and DVC's experiments once each, best first."""

import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from tests.training.project import change

pytestmark = pytest.mark.usefixtures("project")

SETTINGS = {"seed": "1", "train.n_layer": "4", "train.learning_rate": "0.004"}


@pytest.fixture
def project(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit and an MLflow store without runs."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for setting in ("user.name=a", "user.email=a@example.com"):
        monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
        number = "0" if "name" in setting else "1"
        key, value = setting.split("=")
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    git("init", "--quiet")
    git("add", "params.yaml", "dvc.yaml")
    git("commit", "--quiet", "--message", "begin")
    return tmp_path


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def track(name: str, test: float | None, *, experiment: str = "", **settings: str) -> str:
    """Make a run in MLflow. Returns its id."""
    from mlflow import MlflowClient

    client = MlflowClient()
    known = client.get_experiment_by_name("tinyllm")
    number = known.experiment_id if known else client.create_experiment("tinyllm")
    tags = {"dvc.experiment": experiment, "dvc.base_revision": git("rev-parse", "HEAD")}
    run = client.create_run(number, run_name=name, tags=tags if experiment else {})
    for key, value in {
        **SETTINGS,
        **{k.replace("__", "."): v for k, v in settings.items()},
    }.items():
        client.log_param(run.info.run_id, key, value)
    if test is not None:
        client.log_metric(run.info.run_id, "test/bits_per_byte", test)
    client.set_terminated(run.info.run_id, "FINISHED" if test is not None else "FAILED")
    return str(run.info.run_id)


def experiment(name: str, test: float, **settings: object) -> str:
    """Make an experiment as DVC keeps it: a commit under refs/exps/. Returns the commit."""
    base = git("rev-parse", "HEAD")
    change(Path.cwd(), {key.rpartition("__")[2]: str(value) for key, value in settings.items()})
    scores = {"reports/evaluate": {"test": {"bits_per_byte": test}}}
    for folder, content in scores.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "metrics.json").write_text(json.dumps(content))
    git("add", "params.yaml", "reports")
    git("commit", "--quiet", "--message", name)
    made = git("rev-parse", "HEAD")
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", made)
    git("reset", "--quiet", "--hard", base)
    return made


def compare(*arguments: str) -> str:
    """What the command prints in a pipe."""
    command = [sys.executable, "-m", "tinyllm", "compare", *arguments]
    world = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=world, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(compare("--json", *arguments))
    return found


def test_runs_and_experiments_are_one_list_best_first() -> None:
    tracked = track("plain", 1.30)
    made = experiment("only-dvc", 1.10, train__n_layer=6)
    both = track("any name", 1.20, experiment="in-both", train__learning_rate="0.002")
    experiment("in-both", 1.20, train__learning_rate=0.002)
    failed = track("failed", None)

    found = records()
    assert [run["name"] for run in found] == ["only-dvc", "in-both", "plain", "failed"]
    assert [run["mlflow_run"] for run in found] == [None, both, tracked, failed]
    assert [run["dvc_experiment"] for run in found] == [True, True, False, False]
    assert found[0]["revision"] == made
    assert [run["delta"] for run in found[:3]] == pytest.approx([0, 0.1, 0.2])
    assert found[3]["test_bits_per_byte"] is None and found[3]["status"] == "FAILED"


def test_only_settings_that_differ_and_decide_a_result_are_shown() -> None:
    track("a", 1.2, train__n_layer="6", runtime__num_workers="0")
    track("b", 1.1, train__n_layer="4", runtime__num_workers="2")
    (best, other) = csv.DictReader(io.StringIO(compare("--csv")))
    assert (best["train.n_layer"], other["train.n_layer"]) == ("4", "6")
    assert not {"seed", "train.learning_rate", "runtime.num_workers"} & best.keys()


@pytest.mark.slow
def test_last_and_where_choose_runs() -> None:
    experiment("only-dvc", 1.0)  # committed in whole seconds, before the runs
    track("first", 1.1, train__n_layer="6")
    track("second", 1.2)
    assert [run["name"] for run in records("--last", "1")] == ["second"]
    chosen = records("--where", "params.`train.n_layer` = '6'")
    assert [run["name"] for run in chosen] == ["first"]


def test_a_wrong_filter_is_one_line() -> None:
    track("a", 1.2)
    command = [sys.executable, "-m", "tinyllm", "compare", "--where", "n_layer is six"]
    world = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=world, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: MLflow: ") and "n_layer" in line


def test_without_runs_it_says_how_to_make_one(project: Path) -> None:
    (project / "mlflow.db").unlink()
    assert "dvc repro" in compare()
    assert not (project / "mlflow.db").exists()  # reading creates no database


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_the_terminal(width: int) -> None:
    for number in range(3):
        settings = {f"train__setting_{name}": str(number) * 9 for name in range(6)}
        track(f"run-{number}", 1.2 + number / 100, **settings)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tinyllm", "compare"]
    world = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(width), "NO_COLOR": "1"}
    with subprocess.Popen(command, stdout=theirs, env={**world, "TERM": "xterm"}) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                text += os.read(ours, 1 << 16)
            except OSError:  # the program has ended
                break
        assert process.wait() == 0
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()
    assert max(map(len, lines)) <= width
    shown = "".join("".join(lines).split())
    for number in range(3):
        assert f"run-{number}" in shown and f"{1.2 + number / 100:.4f}" in shown
    assert "setting_5" in shown and "000000000" in shown and "222222222" in shown


def test_the_table_is_there_before_torch_would_be_imported() -> None:
    """Importing torch takes longer than reading two hundred runs."""
    track("plain", 1.30)
    program = (
        "import sys\nfrom tinyllm.cli.main import main\nsys.argv = ['tinyllm', 'compare']\n"
        "main()\nassert 'mlflow' in sys.modules\nsys.exit('torch' in sys.modules)"
    )
    world = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=world, check=False)
    assert done.returncode == 0
