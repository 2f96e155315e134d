"""A resumed training ends in the same bytes as an uninterrupted one."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.helpers import ARITHMETICS, ROOT, Arithmetic
from tests.training.project import (
    INTERVAL,
    MAX_STEPS,
    OUTPUTS,
    PATIENCE,
    SPLIT,
    TOKENIZE,
    TRAIN,
    Stage,
    change,
    checkpoint_steps,
    final_state,
    outputs,
    resumed_at,
    run,
    trainings,
)  # fmt: skip
from tinyllm.training.checkpoints import resume


def wait_for_checkpoint(process: Stage, project: Path, step: int) -> None:
    process.wait_until(lambda: any(kept >= step for kept in checkpoint_steps(project)))


def kill_after_a_checkpoint(project: Path) -> None:
    process = Stage(project, "train", *TRAIN, slow=0.02)
    wait_for_checkpoint(process, project, INTERVAL)
    process.kill()


@pytest.mark.slow
@pytest.mark.usefixtures("arithmetic")
def test_a_training_killed_ten_times_ends_in_the_same_bytes(
    project: Path, untouched: dict[str, bytes]
) -> None:
    """Each kill costs at most the steps of one interval."""
    chance = random.Random(3)
    whole, steps = [0], project / "steps.txt"
    for _ in range(10):
        steps.unlink(missing_ok=True)
        process = Stage(project, "train", *TRAIN, before=remember_steps, slow=0.01)
        moment = chance.randint(1, 2 * INTERVAL - 1)
        process.wait_until(partial(has_done, steps, moment))
        time.sleep(chance.uniform(0, 0.01))
        process.kill()
        done = [int(step) for step in steps.read_text().split()]
        assert done[0] == whole[-1]  # it resumed from the last checkpoint
        whole = checkpoint_steps(project) or [0]
        # A checkpoint that is still being written does not count, so its interval is lost too.
        writing = any(trainings(project).glob("*/.step-*"))
        assert done[-1] + 1 - whole[-1] <= INTERVAL + 1 + writing * INTERVAL
        assert outputs(project) == {}
    assert whole[-1] >= 2 * INTERVAL
    assert resumed_at(run(project, "train", *TRAIN)) == whole[-1]
    assert final_state(project) == untouched


def has_done(steps: Path, count: int) -> bool:
    return steps.exists() and len(steps.read_text().split()) >= count


def remember_steps() -> None:
    """Make a training append the number of each completed step to a file."""
    from tinyllm.training.display.watch import Watch

    file = os.open("steps.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    record_step = Watch.step

    def remembered(self: Watch, step: int, values: dict[str, float]) -> None:
        os.write(file, f"{step}\n".encode())
        record_step(self, step, values)

    Watch.step = remembered  # type: ignore[method-assign]  # nothing else counts repeats


# Each with another arithmetic, because whole trainings are slow.
@pytest.mark.parametrize(
    ("number", "arithmetic"),
    list(zip([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ARITHMETICS[1:], strict=True)),
    ids=str,
    indirect=["arithmetic"],
)
@pytest.mark.usefixtures("arithmetic")
def test_a_signal_makes_training_save_and_fail(
    project: Path, untouched: dict[str, bytes], number: signal.Signals
) -> None:
    process = Stage(project, "train", *TRAIN, slow=0.05)
    wait_for_checkpoint(process, project, INTERVAL)
    process.send(number)
    assert process.wait(patience=5) == 130
    stopped = re.search(
        rf"stopped by {number.name} at step (\d+) of {MAX_STEPS}, saved", process.printed()
    )
    assert stopped and "Traceback" not in process.printed()
    assert resumed_at(run(project, "train", *TRAIN)) == int(stopped[1])  # nothing is lost
    assert final_state(project) == untouched


@pytest.mark.parametrize(
    ("environment", "again"),
    [({}, "`dvc repro`"), ({"DVC_EXP_NAME": "wide-boar"}, "the same `dvc exp run`")],
)
def test_the_command_that_resumes_is_printed(
    project: Path, environment: dict[str, str], again: str
) -> None:
    process = Stage(project, "train", *TRAIN, slow=0.05, environment=environment)
    process.wait_for("step  0/")
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert process.printed().rstrip().endswith(f"saved; {again} resumes from there")


def test_a_second_signal_ends_training_at_once(project: Path, untouched: dict[str, bytes]) -> None:
    process = Stage(project, "train", *TRAIN, slow=2)
    process.wait_for("step  0/")
    process.send(signal.SIGINT)
    time.sleep(0.3)
    process.send(signal.SIGINT)
    assert process.wait(patience=1.5) == -signal.SIGINT
    run(project, "train", *TRAIN)
    assert final_state(project) == untouched


def test_a_second_process_of_the_same_training_fails(
    project: Path, untouched: dict[str, bytes]
) -> None:
    first = Stage(project, "train", *TRAIN, slow=0.3)
    first.wait_for("step  0/")
    second = Stage(project, "train", *TRAIN, before=be_impatient)
    assert second.wait() == 1
    assert re.search(r"^error: another process runs this training", second.printed(), re.M)
    first.send(signal.SIGTERM)
    first.wait()
    run(project, "train", *TRAIN)
    assert final_state(project) == untouched


def be_impatient() -> None:
    resume.LOCK_PATIENCE = 0.5


@pytest.mark.slow
def test_resuming_on_other_hardware_fails_unless_allowed(project: Path) -> None:
    kill_after_a_checkpoint(project)
    change(project, {"threads": "2"})
    refused = Stage(project, "train", *TRAIN)
    assert refused.wait() == 1
    assert "threads was 1, is 2" in refused.printed() and "hardware.resume" in refused.printed()
    change(project, {"resume": "any"})
    printed = run(project, "train", *TRAIN)
    assert "may differ in its last bits" in printed and "resuming at step" in printed
    assert "already trained" in run(project, "train", *TRAIN)
    change(project, {"resume": "exact"})  # now exact for neither hardware
    for threads in ("2", "1"):
        change(project, {"threads": threads})
        refused = Stage(project, "train", *TRAIN)
        assert refused.wait() == 1 and "made on other hardware" in refused.printed()


@pytest.mark.parametrize("resume", ["exact", "any"])
def test_a_training_finished_on_other_hardware_is_trained_again(
    project: Path, resume: str, chosen: Arithmetic
) -> None:
    other = "fp32" if chosen.precision == "bf16" else "bf16"
    change(project, {"resume": resume})
    run(project, "train", *TRAIN)
    before = outputs(project)
    change(project, {"precision": other})
    printed = run(project, "train", *TRAIN)
    assert "starting from scratch" in printed and "hardware changed" in printed
    assert "step 60/60" in printed and f", {other}, " in printed
    assert outputs(project) != before
    change(project, {"precision": chosen.precision})
    shutil.rmtree(project / "models")
    assert "already trained" in run(project, "train", *TRAIN)
    assert outputs(project) == before


def test_a_corrupt_checkpoint_of_another_training_does_not_stop_this_one(project: Path) -> None:
    kill_after_a_checkpoint(project)
    (fingerprint,) = (project / ".tinyllm/trainings").glob("*/fingerprint.json")
    fingerprint.write_bytes(b"")
    change(project, {"seed": "2"})
    assert "starting from scratch" in run(project, "train", *TRAIN)


@pytest.mark.parametrize(
    ("setting", "value", "remade", "reason"),
    [
        ("seed", "2", [], "seed changed"),
        ("d_model", "64", [], "train.d_model changed"),
        ("test_fraction", "0.2", ["tokenize", "split"], "data/splits/train/"),
        ("vocab_size", "299", ["tokenize", "split"], "data/tokenizer/"),
    ],
)
def test_another_trainings_checkpoint_is_not_resumed_and_the_reason_is_printed(
    project: Path, setting: str, value: str, remade: list[str], reason: str
) -> None:
    kill_after_a_checkpoint(project)
    change(project, {setting: value})
    for stage in remade:
        run(project, stage, *(TOKENIZE if stage == "tokenize" else SPLIT))
    printed = run(project, "train", *TRAIN)
    (line,) = [line for line in printed.splitlines() if "starting from scratch" in line]
    assert reason in line
    assert "resuming" not in printed


@pytest.mark.parametrize("name", ["params.yaml", "reports/splits.json"])
def test_inputs_edited_during_training_are_named_in_an_error(project: Path, name: str) -> None:
    process = Stage(project, "train", *TRAIN, slow=0.02)
    process.wait_for("step  0/")
    if name == "params.yaml":
        change(project, {"d_model": "64", "resume": "any"})
    else:
        with (project / name).open("a") as edited:
            edited.write("\n")
    assert process.wait() == 1
    named = "hardware.resume, train.d_model" if name == "params.yaml" else name
    assert f"error: changed while train ran: {named};" in process.printed()


@pytest.mark.slow
def test_code_edited_during_training_is_an_error_and_then_another_training(
    prepared: Path, tmp_path: Path
) -> None:
    project = with_code(prepared, tmp_path)
    file = "tinyllm/models/nanochat.py"
    for expected in (f"error: changed while train ran: {file};", f"starting from scratch.*{file}"):
        process = start_training(project)
        assert process.stdout is not None
        printed = process.stdout.readline()
        with (project / file).open("a") as edited:
            edited.write("\n")
        printed += process.communicate(timeout=120)[0]
        assert process.returncode == 1
        assert re.search(expected, printed), printed


@pytest.mark.slow
def test_what_is_only_shown_may_change_between_a_kill_and_a_resume_and_the_loop_may_not(
    prepared: Path, tmp_path: Path
) -> None:
    project = with_code(prepared, tmp_path)
    shown, loop = (project / "tinyllm/training" / n for n in ("display/progress.py", "loop.py"))
    before = shown.read_text()
    slow = before.replace("now = time.perf_counter()", "time.sleep(0.1); now = time.perf_counter()")
    assert slow != before
    shown.write_text(slow)
    process = start_training(project)
    deadline = time.monotonic() + PATIENCE
    while not checkpoint_steps(project):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    last = checkpoint_steps(project)[-1]

    shown.write_text(before)
    process = start_training(project)
    printed = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0 and resumed_at(printed) == last < MAX_STEPS, printed

    with loop.open("a") as edited:
        edited.write("\n")
    printed = start_training(project).communicate(timeout=PATIENCE)[0]
    assert "resuming" not in printed
    assert re.search("starting from scratch.*tinyllm/training/loop.py", printed), printed


def with_code(prepared: Path, folder: Path) -> Path:
    """A copy of the prepared project that runs code of its own."""
    project = Path(shutil.copytree(prepared, folder / "with code"))
    for name in ("stages", "tinyllm"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    return project


def start_training(project: Path) -> "subprocess.Popen[str]":
    """The training stage of a project's own code, which prints to a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train", *TRAIN],
        cwd=project,
        env={**os.environ, "DVC_ROOT": str(project), "PYTHONUNBUFFERED": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_a_finished_training_writes_its_results_again(
    project: Path, untouched: dict[str, bytes]
) -> None:
    run(project, "train", *TRAIN)
    for name in OUTPUTS:
        shutil.rmtree(project / name)
    assert "already trained to the end" in run(project, "train", *TRAIN)
    assert final_state(project) == untouched


def test_a_corrected_licence_changes_the_model_card_and_trains_nothing(project: Path) -> None:
    run(project, "train", *TRAIN)
    model, splits = project / "models/tinyllm", project / "reports/splits.json"
    weights = (model / "model.safetensors").read_bytes()
    assert "license: unknown\n" in (model / "README.md").read_text()
    summary = json.loads(splits.read_text())
    summary["text"]["licence"] = "MIT"
    splits.write_text(json.dumps(summary))
    assert "already trained to the end" in run(project, "train", *TRAIN)
    assert "license: mit\n" in (model / "README.md").read_text()
    assert (model / "model.safetensors").read_bytes() == weights
