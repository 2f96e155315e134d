"""Several processes train the same model as one, and stop together when one fails."""

import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.helpers import ARITHMETICS, ROOT
from tests.training.project import (
    INTERVAL,
    MAX_STEPS,
    PLAIN,
    TRAIN,
    Stage,
    change,
    checkpoint_steps,
    final_state,
    outputs,
    resumed_at,
    run,
)
from tinyllm.common.os_processes import STARTER_EXITED
from tinyllm.training.checkpoints.interruption import ECHO

# Settings whose result does not depend on the number of processes; bf16 would round differently.
SAME = {"optimizer": "adamw", "dropout": "0.0", "precision": "fp32", "batch_size": "12",
        "max_steps": "20", "eval_interval": "10", "eval_tokens": "2000"}  # fmt: skip
NEAR = 1e-5


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The measurements of a single process with the settings `SAME`."""
    project = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("alone") / "project"))
    change(project, SAME)
    run(project, "train", *TRAIN)
    return measured(project)


def measured(project: Path) -> pd.DataFrame:
    """Every number of every step and evaluation."""
    tables = (pd.read_csv(project / f"reports/train/{n}.csv") for n in ("steps", "evaluations"))
    return pd.concat([table.set_index("step") for table in tables], axis=1)


def start(
    project: Path, size: int, *, slow: float = 0, before: Callable[[], None] | None = None,
    projects: list[Path] | None = None,
) -> list[Stage]:  # fmt: skip
    """Start a training's processes as `torchrun` does, without waiting for imports."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    return [
        Stage(where, "train", *TRAIN, slow=slow, before=before,
              environment=world | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank, where in enumerate(projects or [project] * size)
    ]  # fmt: skip


def run_ranks(project: Path, size: int) -> str:
    """Train with some processes to the end. Returns the output of the first one."""
    change(project, {"processes": str(size)})
    processes = start(project, size)
    for rank in processes:
        assert rank.wait() == 0, rank.printed()
        assert rank is processes[0] or rank.printed() == ""
    return processes[0].printed()


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (2, {"micro_batch_size": "2"}),
        (4, {}),
        (3, {"sharding": "full", "micro_batch_size": "2"}),
    ],
)
def test_the_number_of_processes_does_not_change_the_result(
    project: Path, alone: pd.DataFrame, size: int, settings: dict[str, str]
) -> None:
    change(project, SAME | settings)
    printed = run_ranks(project, size)
    assert f"{size} processes, each 1 threads" in printed
    pd.testing.assert_frame_equal(measured(project), alone, rtol=NEAR, atol=0)


@pytest.mark.slow
@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("arithmetic", [ARITHMETICS[0], ARITHMETICS[-1]], ids=str, indirect=True)
def test_several_killed_processes_end_in_the_same_bytes(project: Path) -> None:
    """With three, because the sum of two numbers does not depend on the order. With dropout."""
    change(project, {"batch_size": "6", "processes": "3"})
    shutil.copytree(project, project.with_name("untouched"))
    run_ranks(project.with_name("untouched"), 3)
    processes = start(project, 3, slow=0.02)
    processes[0].wait_until(lambda: checkpoint_steps(project)[-1:] >= [2 * INTERVAL])
    for rank in processes:
        rank.kill()
    assert outputs(project) == {}
    assert resumed_at(run_ranks(project, 3)) >= 2 * INTERVAL
    assert final_state(project) == final_state(project.with_name("untouched"))


@pytest.mark.slow
def test_another_number_of_processes_can_resume_a_checkpoint(
    project: Path, alone: pd.DataFrame
) -> None:
    change(project, SAME | {"resume": "any", "checkpoint_steps": "4"})
    for number, (size, sharding) in enumerate([(2, "none"), (1, "none"), (2, "full")], start=1):
        change(project, {"processes": str(size), "sharding": sharding})
        processes = start(project, size, slow=0.05)
        processes[0].wait_until(partial(has_saved, project, 4 * number))
        for rank in processes:
            rank.kill()
    change(project, {"sharding": "none"})
    printed = run_ranks(project, 3)
    assert "world_size was 2, is 3; sharding was full, is none; the result may differ" in printed
    assert "resuming at step 12 of 20" in printed
    pd.testing.assert_frame_equal(measured(project), alone, rtol=NEAR, atol=0)


def has_saved(project: Path, step: int) -> bool:
    return checkpoint_steps(project)[-1:] == [step]


def test_machines_that_differ_are_an_error(project: Path) -> None:
    other = Path(shutil.copytree(project, project.with_name("other")))
    for place, width in ((project, "32"), (other, "64")):
        change(place, {"processes": "2", "d_model": width})
    processes = start(project, 2, projects=[project, other])
    for rank in processes:
        assert rank.wait() == 1
        assert (
            rank.printed()
            .splitlines()[-1]
            .startswith("error: machines differ in train.d_model: rank 1 (on ")
        )
    assert not (project / ".tinyllm").exists()


# With torch's launcher


@pytest.fixture
def launched(project: Path) -> Iterator[Path]:
    """A project for two processes; kills leftovers afterwards.

    The launcher starts the unchanged stage, with the CPU kernels.
    """
    (project / PLAIN).unlink(missing_ok=True)
    change(project, {"processes": "2"})
    yield project
    left = [p for p in psutil.process_iter(["cmdline", "cwd"]) if p.info["cwd"] == str(project)]
    for process in left:
        process.kill()
    assert not left, [process.info["cmdline"] for process in left]


def launch_training(project: Path) -> Stage:
    """Start the stage as `dvc repro` does."""
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return Stage(project, "train", *TRAIN, environment=environment)


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_is_named_and_a_rerun_resumes(launched: Path) -> None:
    shutil.copytree(launched, launched.with_name("untouched"))
    run_ranks(launched.with_name("untouched"), 2)
    training = launch_training(launched)
    training.wait_until(lambda: checkpoint_steps(launched) != [])
    rank_of(training, 1).kill()
    assert training.wait() == 1
    *_, line = training.printed().splitlines()
    assert line.startswith("error: rank 1 was killed by SIGKILL;"), training.printed()
    assert "Traceback" not in training.printed() and outputs(launched) == {}

    training = launch_training(launched)
    training.wait_for("resuming at step")
    training.send(signal.SIGINT)
    assert training.wait() == 130
    assert re.search(rf"stopped by SIGINT at step \d+ of {MAX_STEPS}, saved", training.printed())

    training = launch_training(launched)
    training.wait_for("resuming at step")
    processes = [rank_of(training, 0), rank_of(training, 1)]
    training.kill()
    psutil.wait_procs(processes, timeout=10)
    assert not any(rank.is_running() for rank in processes)
    assert re.search(r"stopped by .* at step \d+ of", training.printed())
    run_ranks(launched, 2)
    assert final_state(launched) == final_state(launched.with_name("untouched"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "reason"),
    [
        ([], "the exit of its parent process"),
        ([signal.SIGTERM], "SIGTERM"),
        ([signal.SIGHUP], "SIGHUP"),
    ],
)
def test_the_exit_of_dvc_is_no_second_signal(
    launched: Path, signals: list[signal.Signals], reason: str
) -> None:
    """A signal to the whole process group ends DVC at once, while training is still in a step."""
    change(launched, {"batch_size": "32768", "micro_batch_size": "64"})
    training = launch_training(launched)
    training.wait_for("step  0/")
    processes = [rank_of(training, 0), rank_of(training, 1)]
    for number in signals:
        training.send(number)
        time.sleep(0.3)
    training.send(STARTER_EXITED)
    assert training.wait() == -STARTER_EXITED
    psutil.wait_procs(processes, timeout=30)
    stopped = re.search(
        rf"stopped by {reason} at step (\d+) of {MAX_STEPS}, saved", training.printed()
    )
    assert stopped and has_saved(launched, int(stopped[1])), training.printed()


@pytest.mark.slow
def test_a_signal_to_all_processes_counts_once(launched: Path) -> None:
    """Each rank receives it twice: directly, and from the launcher."""
    change(launched, {"batch_size": "32768", "micro_batch_size": "64"})
    training = launch_training(launched)
    training.wait_for("step  0/")
    processes = [rank_of(training, 0), rank_of(training, 1)]
    for rank in processes:
        rank.send_signal(signal.SIGTERM)
    training.send(signal.SIGTERM)
    assert training.wait() == 130
    stopped = re.search(
        rf"stopped by SIGTERM at step (\d+) of {MAX_STEPS}, saved", training.printed()
    )
    assert stopped and has_saved(launched, int(stopped[1])), training.printed()

    training = launch_training(launched)
    training.wait_for("resuming at step")
    first = rank_of(training, 0)
    training.send(signal.SIGTERM)
    time.sleep(ECHO + 0.2)
    first.send_signal(signal.SIGTERM)
    assert training.wait() != 0 and "saved" not in training.printed(), training.printed()


def test_a_rank_names_the_command_that_fixes_its_error(launched: Path) -> None:
    (launched / "reports/splits.json").unlink()
    training = launch_training(launched)
    assert training.wait() == 1
    *_, line = training.printed().splitlines()
    wanted = r"error: rank \d: reports/splits\.json is missing; run `dvc repro`"
    assert re.fullmatch(wanted, line), training.printed()


def rank_of(training: Stage, rank: int) -> psutil.Process:
    """The process of one rank."""
    children = psutil.Process(training.pid).children()
    (found,) = [child for child in children if child.environ().get("RANK") == str(rank)]
    return found
