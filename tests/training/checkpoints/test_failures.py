"""A failed training keeps its last intact checkpoint, prints one line, and can resume."""

import math
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from torch import Tensor

from tests.training.project import (
    INTERVAL,
    TRAIN,
    Stage,
    change,
    checkpoint_steps,
    final_state,
    outputs,
    resumed_at,
    run,
    trainings,
)
from tinyllm.training.distributed.processes import ALONE, Processes


def error_of(failed: Stage) -> str:
    """The error line of a failed stage."""
    assert failed.wait() == 1, failed.printed()
    assert "Traceback" not in failed.printed(), failed.printed()
    *_, line = failed.printed().splitlines()
    assert line.startswith("error: "), failed.printed()
    return line


def test_a_killed_data_worker_stops_training_after_its_last_checkpoint(
    project: Path, untouched: dict[str, bytes]
) -> None:
    change(project, {"num_workers": "1"})
    training = Stage(project, "train", *TRAIN, slow=0.03)
    training.wait_until(lambda: checkpoint_steps(project) != [])
    (worker,) = psutil.Process(training.pid).children()
    worker.kill()
    line = error_of(training)
    assert "data worker" in line and str(worker.pid) in line and "runtime.num_workers" in line
    (*_, kept) = checkpoint_steps(project)
    assert resumed_at(run(project, "train", *TRAIN)) == kept
    assert final_state(project) == untouched


def lose_the_checkpoints_once_the_model_is_published() -> None:
    from tinyllm.training.display.watch import Watch

    keep = Watch.keep

    def keep_and_lose(self: Watch, model: Path, reports: Path) -> None:
        keep(self, model, reports)
        folder = trainings(Path.cwd())
        shutil.rmtree(folder)
        folder.touch()  # a file in place of a folder

    Watch.keep = keep_and_lose  # type: ignore[method-assign]


def test_a_published_model_is_kept_without_its_last_checkpoint(
    project: Path, untouched: dict[str, bytes]
) -> None:
    training = Stage(
        project, "train", *TRAIN, before=lose_the_checkpoints_once_the_model_is_published
    )
    assert training.wait() == 0, training.printed()
    assert "can't save a checkpoint in" in training.printed()
    assert outputs(project).items() <= untouched.items()


def test_training_interrupted_with_its_workers_saves_and_fails(
    project: Path, untouched: dict[str, bytes]
) -> None:
    """Ctrl-C reaches every process in the terminal's foreground."""
    change(project, {"num_workers": "1"})
    training = Stage(project, "train", *TRAIN, slow=0.03)
    training.wait_until(lambda: checkpoint_steps(project) != [])
    for process in [*psutil.Process(training.pid).children(), psutil.Process(training.pid)]:
        process.send_signal(signal.SIGINT)
    assert training.wait(patience=5) == 130
    stopped = re.search(r"stopped by SIGINT at step (\d+) of", training.printed())
    assert stopped, training.printed()
    assert resumed_at(run(project, "train", *TRAIN)) == int(stopped[1])
    assert final_state(project) == untouched


def fail_after(last: int, fail: Callable[[], object]) -> None:
    """Make this process's training call a function after a step, before it is saved."""
    from tinyllm.training.display.watch import Watch

    record_step = Watch.step

    def failing(self: Watch, step: int, values: dict[str, float]) -> None:
        record_step(self, step, values)
        if step == last:
            fail()

    Watch.step = failing  # type: ignore[method-assign]  # a failure at a chosen step


def too_large_for_torch() -> None:
    import torch

    fail_after(3 * INTERVAL, lambda: torch.empty(1 << 48))


def too_large_for_python() -> None:
    fail_after(3 * INTERVAL, lambda: bytearray(1 << 48))


def no_number_in_a_weight() -> None:
    """The effect of a faulty processor or memory, or of a bug in a kernel."""
    from tinyllm.models.model import Model
    from tinyllm.training import loop

    clip = loop.clip_gradient
    calls = iter(range(1000))

    def corrupt(model: Model, limit: float | None, processes: Processes = ALONE) -> Tensor:
        if next(calls) == 3 * INTERVAL + 1:
            parameter = next(model.parameters())
            assert parameter.grad is not None
            parameter.grad[0, 0] = math.nan
        return clip(model, limit, processes)

    loop.clip_gradient = corrupt


@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        (too_large_for_torch, r"out of memory.*train\.micro_batch_size"),
        (too_large_for_python, r"out of memory.*train\.micro_batch_size"),
        (no_number_in_a_weight, rf"training diverged at step {3 * INTERVAL + 1}: .*nan"),
    ],
)
def test_a_failure_during_training_keeps_the_last_checkpoint(
    project: Path, untouched: dict[str, bytes], fail: Callable[[], None], expected: str
) -> None:
    assert re.search(expected, error_of(Stage(project, "train", *TRAIN, before=fail)))
    assert checkpoint_steps(project) == [2 * INTERVAL, 3 * INTERVAL]
    assert resumed_at(run(project, "train", *TRAIN)) == 3 * INTERVAL
    assert final_state(project) == untouched


def test_a_batch_too_large_for_memory_is_reported(project: Path) -> None:
    change(project, {"batch_size": "100000"})
    line = error_of(Stage(project, "train", *TRAIN, before=limit_memory))
    assert "out of memory" in line and "train.micro_batch_size" in line
    assert checkpoint_steps(project) == []


def limit_memory() -> None:
    """Limit this process to a little more memory than it uses, as a container does."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
