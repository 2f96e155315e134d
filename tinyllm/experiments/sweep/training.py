"""One training of a trial, as a process that runs and can be stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tinyllm.experiments.command import SWEEP_ROOT
from tinyllm.experiments.provenance import SWEEP_TAGS
from tinyllm.experiments.sweep.training_watch import TrainingWatch
from tinyllm.experiments.sweep.trial_process import Job
from tinyllm.experiments.sweep.trials import Trial

POLL = 0.5  # seconds between two looks at a process
GRACE = 30.0  # seconds in which a training stops and saves its state
LONGEST = 300  # characters shown of an error
ORPHAN = 60.0  # seconds in which the processes of a killed sweep exit


@dataclass
class Training:
    """One training of a trial, for one seed.

    Attributes:
        watch: reads its scores while it runs; None if it is not pruned.
        pruned: why it was stopped as hopeless; empty if it was not.
    """

    trial: Trial
    seed: int | None
    job: Job
    watch: TrainingWatch | None = None
    pruned: str = ""
    _process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, which `start` makes."""
        assert self._process is not None
        return self._process

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self._started

    def start(self, tags: dict[str, str]) -> None:
        """Start its process.

        Args:
            tags: of its run in MLflow.
        """
        trees = self.job.trees.folder
        world = {
            # DVC's records of a tree, which are deleted with the trees
            "DVC_SITE_CACHE_DIR": str(trees / ".dvc-site"),
            **os.environ,
            # The stages' command is `python`, which must be this one.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            SWEEP_ROOT: self.job.root,
            SWEEP_TAGS: json.dumps(tags),
        }
        for folder in (self.job.log.parent, self.job.lock.file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.job.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.job.command(), cwd=self.job.root, env=world, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
                process_group=0,  # Ctrl-C reaches only the sweep, which stops its trainings
            )  # fmt: skip
        self._started = time.monotonic()

    def exited(self) -> bool:
        """Whether its process has exited."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Ask its stage to save its state and exit; DVC exits then too."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if any(part.startswith("stages.") for part in child.cmdline()):
                        child.send_signal(signal.SIGINT)

    def wait(self) -> None:
        """Wait for its process, and kill it if it does not exit."""
        try:
            self.process.wait(GRACE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wait_for_orphan(self) -> None:
        """Wait until the process that a killed sweep started has exited, which it does itself.

        Raises:
            ValueError: it still runs.
        """
        deadline = time.monotonic() + ORPHAN
        while self.job.lock.is_held():
            if time.monotonic() > deadline:
                name = self.job.experiment
                raise ValueError(f"a process of an earlier start of the sweep still runs {name}")
            time.sleep(POLL)

    def failure(self) -> str:
        """Why DVC failed, from what it printed."""
        lines = self.job.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.lower().startswith("error")]
        return (errors or lines or ["no output"])[-1][:LONGEST]
