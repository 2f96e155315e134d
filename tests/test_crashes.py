"""After any process is killed, the next `dvc repro` gives the same result: real DVC and SIGKILL."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.pipeline import STAGES, Project, clone, stages_run
from tinyllm.common.os_processes import is_alive

# The moment of a kill: everything is written, except that this output is not yet in place.
LAST_OUTPUTS = {
    "download": "raw",
    "tokenize": "tokens",
    "split": "validation",
    "train": "train",
    "evaluate": "evaluate",
}
# Python runs a module with this name when it starts.
HOOK = """
import os, pathlib, signal, sys, time

victim, stage, output = os.environ["KILL"].split()
if sys.orig_argv[1:3] == ["-m", "dvc"]:  # a stage's parent may be a shell
    os.environ["DVC"] = str(os.getpid())

def look(event, arguments):
    if event != "os.rename" or pathlib.Path(os.fspath(arguments[1])).name != output:
        return
    os.environ["KILL"] = "nobody nothing nowhere"
    if victim == "stage":
        os.kill(os.getpid(), signal.SIGKILL)
    if victim == "dvc":
        with open(os.environ["ORPHANS"], "a") as orphans:
            print(os.getpid(), file=orphans)
        os.kill(int(os.environ["DVC"]), signal.SIGKILL)
        time.sleep(30)  # an orphan with much to do yet

if sys.orig_argv[1:3] == ["-m", f"stages.{stage}"]:
    sys.addaudithook(look)
"""
LONG = {
    "train.max_steps": 1000,
    "train.eval_interval": 500,
    "runtime.checkpoint_steps": 50,
    "runtime.tracker": "none",
}


def half_written(project: Project) -> list[Path]:
    """Temporary files that a killed process has left."""
    folders = [project.root / name for name in ("data", "models", "reports", ".tinyllm/trainings")]
    return [path for folder in folders for path in folder.rglob(".*.tmp")]


def start_training(project: Project) -> subprocess.Popen[str]:
    """Start `dvc repro train`, and wait until training has saved a checkpoint."""
    process = subprocess.Popen(
        ["python", "-m", "dvc", "repro", "train"],
        cwd=project.root,
        env={**project.world(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not any((project.root / ".tinyllm/trainings").glob("*/step-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_after_a_kill_in_any_stage_the_next_repro_gives_the_same_outputs(
    ran: Project, tmp_path: Path
) -> None:
    """In some stages the stage is killed, in others DVC, which leaves a running orphan."""
    root = tmp_path / "clone"
    (hooks := tmp_path / "hooks").mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK)
    orphans, log = tmp_path / "orphans", tmp_path / "printed.txt"
    project = clone(root)
    project.set({"runtime.tracker": "none"})
    done: list[str] = []
    for victim, stage in zip(["dvc", "stage", "dvc", "stage", "dvc"], STAGES, strict=True):
        hook = {"KILL": f"{victim} {stage} {LAST_OUTPUTS[stage]}", "PYTHONPATH": str(hooks)}
        killed = Project(root, {**hook, "ORPHANS": str(orphans)})
        with log.open("w") as printed:  # not a pipe, which would wait for the orphan to exit
            ended = subprocess.run(
                ["python", "-m", "dvc", "repro"],
                cwd=root, env=killed.world(), stdout=printed, stderr=printed, check=False,
            )  # fmt: skip
        assert ended.returncode == (-signal.SIGKILL if victim == "dvc" else 255)
        done += stages_run(log.read_text())
        assert done[-1] == stage
        if victim == "stage":
            assert half_written(project)
    assert stages_run(project.dvc("repro").stdout) == ["evaluate"]
    assert done == [stage for stage in STAGES for _ in (1, 2)][:-1]
    assert not any(is_alive(int(orphan)) for orphan in orphans.read_text().split())
    assert half_written(project) == []
    assert project.outputs() == ran.outputs()  # dvc.lock is among them


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_dvc_and_training_counts_once(copy: Project, number: signal.Signals) -> None:
    """As a batch system or a closing terminal sends it."""
    # A step takes longer than noticing that DVC has exited.
    copy.set({**LONG, "train.batch_size": 16384, "runtime.checkpoint_steps": 1})
    stopped = start_training(copy)
    os.killpg(stopped.pid, number)
    printed = stopped.communicate()[0]
    assert re.search(rf"stopped by {number.name} at step \d+ of 1000, saved", printed), printed


@pytest.mark.slow
def test_training_stops_when_dvc_is_killed_and_resumes(copy: Project) -> None:
    """Training stops on its own; then the next `dvc repro` resumes it."""
    copy.set(LONG)
    killed = start_training(copy)
    killed.kill()
    killed.wait()
    again = copy.dvc("repro", "train").stdout
    orphan = killed.communicate()[0]
    stopped = re.search(
        r"stopped by the exit of its parent process at step (\d+) of 1000, saved", orphan
    )
    assert stopped, orphan
    assert f"resuming at step {stopped[1]} of 1000" in again
    assert half_written(copy) == []

    resumed = copy.outputs()
    shutil.rmtree(copy.root / ".tinyllm/trainings")
    untouched = copy.dvc("repro", "--force", "--single-item", "train").stdout
    assert "resuming" not in untouched
    assert copy.outputs() == resumed


@pytest.mark.slow
def test_of_two_repros_at_once_one_fails_and_the_other_succeeds(copy: Project) -> None:
    copy.set(LONG)
    first = start_training(copy)
    second = copy.dvc("repro", "train", check=False)
    printed = first.communicate()[0]
    assert first.returncode == 0, printed
    assert second.returncode != 0
    assert "Running stage" not in second.stdout
    (line,) = [line for line in second.stderr.splitlines() if line.startswith("ERROR")]
    assert re.search("lock|busy|another", line, re.IGNORECASE), line
    assert stages_run(copy.dvc("repro", "train").stdout) == []
    assert half_written(copy) == []
