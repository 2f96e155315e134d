"""A small project, and its training stage as a process that can be killed.

The processes are forked from one that has imported everything, which takes a fiftieth of the time
of starting Python (5 s); they run the stage as `dvc repro` does.
"""

import io
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.helpers import ARITHMETICS, ROOT, Arithmetic, make_documents
from tinyllm.common.files import STATE_FOLDER

MAX_STEPS, INTERVAL = 60, 7
SETTINGS = {
    "device": "cpu", "precision": "fp32", "threads": "1",
    "n_layer": "1", "n_head": "2", "d_model": "32", "context_length": "32",
    "dropout": "0.1", "batch_size": "4", "max_steps": str(MAX_STEPS), "warmup_steps": "5",
    "eval_interval": "20", "eval_tokens": "512", "vocab_size": "300",
    "checkpoint_steps": str(INTERVAL), "checkpoint_minutes": "null", "tracker": "none",
    "source": "path", "separator": '"\\n\\n"', "stride": "null",
}  # fmt: skip
OUTPUTS = ("models", "reports/train")
DOWNLOAD = ("--params", "params.yaml", "--raw", "data/raw")
TOKENIZE = (
    *DOWNLOAD, "--tokenizer", "data/tokenizer", "--tokens", "data/tokens",
    "--reports", "reports/corpus",
)  # fmt: skip
SPLIT = (
    "--tokens", "data/tokens", "--train", "data/splits/train", "--validation",
    "data/splits/validation", "--test", "data/splits/test", "--summary", "reports/splits.json",
)  # fmt: skip
TRAIN = (
    "--params", "params.yaml", "--tokenizer", "data/tokenizer", "--train", "data/splits/train",
    "--validation", "data/splits/validation", "--splits", "reports/splits.json",
    "--model", "models/tinyllm", "--reports", "reports/train",
)  # fmt: skip
PLAIN = "plain-formulas"  # a file in a project whose stages compute as on a GPU
PATIENCE = 300.0  # seconds until a test stops waiting for a process

_forks = multiprocessing.get_context("forkserver")
# Modules that the stages import inside functions; torch's own late imports take another second.
_forks.set_forkserver_preload(
    [
        "torch._inductor.config", "torch.distributed.launcher.api", "matplotlib.pyplot", "pandas",
        "tests.training.project", "tinyllm.training.distributed.rendezvous",
        "tinyllm.training.distributed.fsdp",
        "torch._dynamo.config",
        "tinyllm.settings.load", "tinyllm.data.sources.corpus", "tinyllm.data.tokenize.encode",
        "tinyllm.data.tokenize.corpus_report",
        "tinyllm.pictures.loss", "tinyllm.data.split_rule", "tinyllm.training.data",
        "tinyllm.training.optimizers.registry", "tinyllm.training.report",
        "tinyllm.training.checkpoints.resume",
        "tinyllm.training.loop", "tinyllm.training.display.watch",
    ]
)  # fmt: skip


class Stage:
    """A stage that runs as a process.

    Args:
        project: folder to run in; the output goes to a file in it.
        name: name of the stage.
        slow: seconds added to each training step.
        before: function called in the process before the stage.
        environment: additional environment variables.
    """

    def __init__(
        self, project: Path, name: str, *arguments: str, slow: float = 0,
        before: Callable[[], None] | None = None, environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        environment = environment or {}
        self.log = project / f"printed{environment.get('RANK', '')}.txt"
        self.log.write_text("")
        arguments_of_run = (project, name, arguments, slow, before, self.log, environment)
        self.process = _forks.Process(target=_run, args=arguments_of_run)
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def printed(self) -> str:
        return self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL and wait until the process has exited."""
        self.process.kill()
        self.wait()
        assert self.process.exitcode == -signal.SIGKILL, self.printed()

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its exit status; a negative one is the signal that ended it."""
        self.process.join(patience)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"still running after {patience} s:\n{self.printed()}")
        return self.process.exitcode

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait until a condition holds while this process runs."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert self.process.exitcode is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.005)

    def wait_for(self, words: str) -> None:
        """Wait until the process has printed some words."""
        self.wait_until(lambda: words in self.printed())


def _run(
    project: Path, name: str, arguments: tuple[str, ...], slow: float,
    before: Callable[[], None] | None, printed: Path, environment: Mapping[str, str],
) -> None:  # fmt: skip
    multiprocessing.set_start_method("fork", force=True)  # for data workers, as elsewhere
    os.chdir(project)
    os.environ.update(environment, DVC_ROOT=str(project))
    log = os.open(printed, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    if Path(PLAIN).exists():
        use_plain_formulas()
    if slow:
        slow_down(slow)
    if before is not None:
        before()
    sys.argv = [name, *arguments]
    runpy.run_module(f"stages.{name}", run_name="__main__", alter_sys=True)


def use_plain_formulas() -> None:
    """Make this process compute with the formulas that a GPU runs."""
    from tinyllm.models import formulas

    formulas.uses_cpu_kernels = lambda x: False  # noqa: ARG005


def chosen_by(config: pytest.Config) -> Arithmetic:
    """The arithmetic of the option --arithmetic."""
    name = config.getoption("--arithmetic")
    return next(each for each in ARITHMETICS if str(each) == name)


def compute_by(project: Path, arithmetic: Arithmetic) -> None:
    """Set the arithmetic of a project's trainings."""
    change(project, {"precision": arithmetic.precision})
    if arithmetic.plain:
        (project / PLAIN).touch()


def slow_down(seconds: float) -> None:
    """Make each training step of this process take longer."""
    from tinyllm.training.display.progress import Progress

    step = Progress.step

    def slow_step(self: Progress, loss: float, rate: float) -> float:
        time.sleep(seconds)
        return step(self, loss, rate)

    Progress.step = slow_step  # type: ignore[method-assign]  # no setting slows it down


def run(project: Path, name: str, *arguments: str) -> str:
    """Run a stage to its end. Returns what it printed."""
    stage = Stage(project, name, *arguments)
    assert stage.wait() == 0, stage.printed()
    return stage.printed()


def change(project: Path, settings: dict[str, str]) -> None:
    """Set values in a project's params.yaml."""
    path = project / "params.yaml"
    text = path.read_text()
    for name, value in settings.items():
        text, found = re.subn(rf"(?m)^((?:  )?{name}:) (\S+|'.*'|\".*\")", rf"\1 {value}", text)
        assert found, name
    path.write_text(text)


def prepare(project: Path) -> None:
    """Make a project with everything that training needs."""
    project.mkdir()
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    change(project, SETTINGS)
    (project / "corpus").mkdir()
    (project / "corpus" / "a.txt").write_text("\n\n".join(make_documents(300, seed=1)))
    run(project, "download", *DOWNLOAD)
    run(project, "tokenize", *TOKENIZE)
    run(project, "split", *SPLIT)


def trainings(project: Path) -> Path:
    return project / STATE_FOLDER / "trainings"


def outputs(project: Path) -> dict[str, bytes]:
    """The content of each output file of the training, by name."""
    files = (file for name in OUTPUTS for file in sorted((project / name).rglob("*")))
    return {str(f.relative_to(project)): f.read_bytes() for f in files if f.is_file()}


def final_state(project: Path) -> dict[str, bytes]:
    """The bytes of weights, optimizer and history at the end of the training, and its outputs."""
    (last,) = trainings(project).glob(f"*/step-{MAX_STEPS:09d}")
    return {f.name: f.read_bytes() for f in sorted(last.iterdir())} | outputs(project)


def checkpoint_steps(project: Path) -> list[int]:
    """Steps of the kept checkpoints, oldest first."""
    return sorted(int(path.name[5:]) for path in trainings(project).glob("*/step-*"))


def resumed_at(printed: str) -> int:
    """The step at which a training resumed."""
    found = re.search(rf"resuming at step (\d+) of {MAX_STEPS}", printed)
    assert found, printed
    return int(found[1])
