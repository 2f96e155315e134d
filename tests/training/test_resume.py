"""Training that is interrupted, and goes on, ends in the same bytes as one that never was."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT, make_documents

SETTINGS = {
    "threads": "1", "n_layer": "1", "n_head": "2", "d_model": "32", "context_length": "32",
    "dropout": "0.1", "batch_size": "4", "max_steps": "60", "warmup_steps": "5",
    "eval_interval": "20", "eval_tokens": "512", "vocab_size": "300", "checkpoint_steps": "7",
    "checkpoint_minutes": "null", "tracker": "none", "source": "path", "separator": '"\\n\\n"',
    "stride": "null",
}  # fmt: skip
OUTPUTS = ("models", "reports/train")


def change(project: Path, settings: dict[str, str]) -> None:
    """Set values in a project's params.yaml."""
    path = project / "params.yaml"
    text = path.read_text()
    for name, value in settings.items():
        text, found = re.subn(rf"(?m)^(  {name}:) (\S+|'.*'|\".*\")", rf"\1 {value}", text)
        assert found, name
    path.write_text(text)


def start(project: Path, stage: str, *arguments: str, slow: float = 0) -> subprocess.Popen[str]:
    """Start a stage; with `slow`, seconds that each training step takes longer."""
    command = [sys.executable, "-P", "-m", f"stages.{stage}", *arguments]
    if slow:
        program = (
            "import runpy, sys, time, tinyllm.training.progress as p; step = p.Progress.step;"
            f"p.Progress.step = lambda *a: (time.sleep({slow}), step(*a))[1];"
            f"sys.argv = {['stage', *arguments]!r}; "
            f"runpy.run_module('stages.{stage}', run_name='__main__', alter_sys=True)"
        )
        command = [sys.executable, "-P", "-c", program]
    environment = {
        **os.environ, "PYTHONPATH": str(project), "DVC_ROOT": str(project), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    return subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stage(project: Path, name: str, *arguments: str) -> str:
    process = start(project, name, *arguments)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    return output


TRAIN = (
    "--params", "params.yaml", "--tokenizer", "data/tokenizer", "--train", "data/splits/train",
    "--validation", "data/splits/validation", "--splits", "reports/splits.json",
    "--model", "models/tinyllm", "--reports", "reports/train",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with everything that training needs."""
    project = tmp_path_factory.mktemp("prepared") / "project"
    project.mkdir()
    for name in ("stages", "tinyllm"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    change(project, SETTINGS)
    (project / "corpus").mkdir()
    (project / "corpus" / "a.txt").write_text("\n\n".join(make_documents(300, seed=1)))
    stage(project, "download", "--params", "params.yaml", "--raw", "data/raw")
    stage(
        project, "tokenize", "--params", "params.yaml", "--raw", "data/raw",
        "--tokenizer", "data/tokenizer", "--tokens", "data/tokens",
    )  # fmt: skip
    stage(
        project, "split", "--tokens", "data/tokens", "--train", "data/splits/train",
        "--validation", "data/splits/validation", "--test", "data/splits/test",
        "--summary", "reports/splits.json",
    )  # fmt: skip
    return project


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared project."""
    return Path(shutil.copytree(prepared, tmp_path / "project"))


def outputs(project: Path) -> dict[str, bytes]:
    files = (file for name in OUTPUTS for file in sorted((project / name).rglob("*")))
    return {str(f.relative_to(project)): f.read_bytes() for f in files if f.is_file()}


@pytest.fixture(scope="module")
def untouched(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted training writes."""
    project = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("clean") / "project"))
    stage(project, "train", *TRAIN)
    return outputs(project)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What a process prints, up to a line with some words."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"{words!r} is not in:\n{seen}")


def checkpoint_steps(project: Path) -> list[int]:
    return sorted(int(p.name[5:]) for p in (project / ".tinyllm/trainings").glob("*/step-*"))


def wait_for_checkpoint(project: Path, step: int) -> None:
    for _ in range(600):
        if any(kept >= step for kept in checkpoint_steps(project)):
            return
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint of step {step}: {checkpoint_steps(project)}")


def resumed_at(output: str) -> int:
    found = re.search(r"resuming at step (\d+) of 60", output)
    assert found, output
    return int(found[1])


def test_killed_anywhere_it_ends_in_the_same_bytes(
    project: Path, untouched: dict[str, bytes]
) -> None:
    chance = random.Random(3)
    for kill in range(3):
        process = start(project, "train", *TRAIN, slow=0.02)
        wait_for_checkpoint(project, 14 * kill + 7)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert outputs(project) == {}
    last = checkpoint_steps(project)[-1]
    output = stage(project, "train", *TRAIN)
    assert resumed_at(output) == last  # what was done since is lost, and no more
    assert outputs(project) == untouched


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_fails(
    project: Path, untouched: dict[str, bytes], number: signal.Signals
) -> None:
    process = start(project, "train", *TRAIN, slow=0.05)
    wait_for_checkpoint(project, 7)
    process.send_signal(number)
    began = time.monotonic()
    output = process.communicate(timeout=60)[0]
    assert time.monotonic() - began < 5
    assert process.returncode not in (0, -number)
    stopped = re.search(rf"stopped by {number.name} at step (\d+) of 60, saved", output)
    assert stopped and "Traceback" not in output
    assert resumed_at(stage(project, "train", *TRAIN)) == int(stopped[1])  # nothing is lost
    assert outputs(project) == untouched


def test_a_second_signal_ends_it_at_once(project: Path, untouched: dict[str, bytes]) -> None:
    process = start(project, "train", *TRAIN, slow=2)
    read_until(process, "step  0/60")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=1.5) == -signal.SIGINT
    stage(project, "train", *TRAIN)
    assert outputs(project) == untouched


def test_two_at_once_are_refused(project: Path, untouched: dict[str, bytes]) -> None:
    first = start(project, "train", *TRAIN, slow=0.3)
    read_until(first, "step  0/60")
    second = start(project, "train", *TRAIN)
    output = second.communicate(timeout=60)[0]
    assert second.returncode == 1
    assert re.fullmatch(r"error: another process is at this very training.*\n", output)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    stage(project, "train", *TRAIN)
    assert outputs(project) == untouched


def test_other_hardware_is_refused_unless_it_is_allowed(project: Path) -> None:
    process = start(project, "train", *TRAIN, slow=0.05)
    wait_for_checkpoint(project, 7)
    process.kill()
    process.communicate()
    change(project, {"threads": "2"})
    refused = start(project, "train", *TRAIN)
    output = refused.communicate(timeout=60)[0]
    assert refused.returncode == 1
    assert "threads was 1, is 2" in output and "hardware.resume" in output
    change(project, {"resume": "any"})
    output = stage(project, "train", *TRAIN)
    assert "may differ in its last bits" in output and "resuming at step" in output


def test_another_training_is_never_gone_on_from_and_why_is_told(project: Path) -> None:
    process = start(project, "train", *TRAIN, slow=0.05)
    wait_for_checkpoint(project, 7)
    process.kill()
    process.communicate()
    change(project, {"d_model": "64"})
    output = stage(project, "train", *TRAIN)
    assert "starting anew" in output and "train.d_model changed" in output
    assert "resuming" not in output


@pytest.mark.parametrize("file", ["tinyllm/model.py", "params.yaml", "reports/splits.json"])
def test_inputs_edited_meanwhile_are_an_error_that_names_them(project: Path, file: str) -> None:
    process = start(project, "train", *TRAIN, slow=0.02)
    read_until(process, "step  0/60")
    if file == "params.yaml":
        change(project, {"d_model": "64"})
    else:
        with (project / file).open("a") as edited:
            edited.write("\n")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    named = "train.d_model" if file == "params.yaml" else file
    assert f"error: changed while training ran: {named};" in output


def test_a_finished_training_is_written_again(project: Path, untouched: dict[str, bytes]) -> None:
    stage(project, "train", *TRAIN)
    for name in OUTPUTS:
        shutil.rmtree(project / name)
    output = stage(project, "train", *TRAIN)
    assert "already trained to the end" in output
    assert outputs(project) == untouched
