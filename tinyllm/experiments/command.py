"""Running a stage or a command so that its messages name the DVC command to use next."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllm.common import console
from tinyllm.common.errors import Interrupted, RunAgain

if TYPE_CHECKING:
    import psutil

EXPERIMENT = "DVC_EXP_NAME"  # DVC sets this variable in the stages of an experiment
STAGE = "DVC_STAGE"  # DVC sets this variable in the stages that it runs
# `tinyllm sweep` runs its experiments in repositories of their own, and sets this variable to the
# project that has their checkpoints and records.
SWEEP_ROOT = "TINYLLM_SWEEP_ROOT"


def read_paths(description: str | None, **options: str) -> argparse.Namespace:
    """Read a stage's command line: the path of each option, all of them required.

    Args:
        description: the stage's, for `--help`.
        options: the name and the description of each option.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, about in options.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=about, metavar="PATH")
    return parser.parse_args()


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main function; the stage exits if the DVC that started it is killed.

    Otherwise the stage would keep running and the next `dvc repro` would start a second one.
    """

    def watched() -> None:
        from tinyllm.common import os_processes  # cannot be imported on Windows

        # If several processes share a training, DVC started only their launcher.
        if launcher := os_processes.launcher():
            os_processes.end_with(launcher, "launcher")
        elif dvc := _dvc():
            os_processes.end_with(dvc, "DVC process")
        main()

    run(watched)


def run(main: Callable[[], None]) -> None:
    """Run a command's main function; an error names the DVC command to use next."""

    def named() -> None:
        try:
            with _root_in_environment():
                main()
        except RunAgain as error:
            raise ValueError(f"{error}; run {_again()}") from error
        except Interrupted as stop:
            raise KeyboardInterrupt(f"{stop}; {_again()} resumes from there") from stop

    console.run(named)


@contextmanager
def _root_in_environment() -> Iterator[None]:
    """The project's root in the environment for this command and the processes that it starts."""
    from tinyllm.common.files import ROOT  # cannot be imported on Windows

    before = os.environ.get(ROOT)
    os.environ[ROOT] = str(_root())
    try:
        yield
    finally:
        # One process may run several commands, in several projects.
        if before is None:
            del os.environ[ROOT]
        else:
            os.environ[ROOT] = before


def _root() -> Path:
    """The main repository, also from inside the temporary folder of an experiment."""
    if root := os.environ.get(SWEEP_ROOT) or os.environ.get("DVC_ROOT"):
        return Path(root).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)


def _again() -> str:
    # `dvc repro` would run without the experiment's settings.
    return "the same `dvc exp run`" if EXPERIMENT in os.environ else "`dvc repro`"


def _dvc() -> "psutil.Process | None":
    """The DVC process that started this stage, also through a shell; None without DVC."""
    import psutil

    if STAGE not in os.environ:
        return None
    for ancestor in psutil.Process().parents():
        try:
            if STAGE not in ancestor.environ():  # the process that set it
                return ancestor
        except psutil.Error:  # owned by another user, or exited
            continue
    return None
