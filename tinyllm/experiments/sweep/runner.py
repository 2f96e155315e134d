"""The loop of a sweep: starts trainings, collects what they made, and stops the hopeless ones."""

import os
import signal
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.common.files import remove
from tinyllm.common.os_processes import available_cores
from tinyllm.experiments.provenance import hydra
from tinyllm.experiments.sweep.parent_run import SWEEP_TAG, ParentRun, experiment_name
from tinyllm.experiments.sweep.settings import Sweep
from tinyllm.experiments.sweep.training import POLL, Training
from tinyllm.experiments.sweep.training_watch import TrainingWatch
from tinyllm.experiments.sweep.trial_process import Job
from tinyllm.experiments.sweep.trials import Trial, Trials

FAILURES = 3  # trials in a row that fail before the sweep stops
SAVE_TIME = 10.0  # seconds between two records of the time that the sweep took
TRIAL_TAG = "tinyllm.sweep.trial"  # of a training's run: the number of its trial


@dataclass
class Runner:
    """Runs a sweep.

    Args:
        root, folder: of the project, and of the sweep in it.
        setup: what all trials share: `identity`, and `head`, `files`, `cache` of `Trees.make`.
        jobs: trainings that run at once.
        show: prints a finished trial.

    Attributes:
        values: the score of each seed, by the index of the trial.
        seconds: that the trainings of a trial ran, by its index.
    """

    root: Path
    folder: Path
    sweep: Sweep
    trials: Trials
    setup: dict[str, Any]
    parent: ParentRun
    jobs: int
    show: Callable[[Trial], None]
    waiting: deque[Training] = field(default_factory=deque)
    running: list[Training] = field(default_factory=list)
    values: dict[int, dict[int | None, float]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    failures: int = 0

    def run(self) -> None:
        """Run the sweep until its budget is spent or no point is left.

        Raises:
            KeyboardInterrupt: it was interrupted; every training has saved its state.
            ValueError: several trials in a row failed, or a process of a killed sweep still runs.
        """
        self._before = self.trials.elapsed
        self._started = self._saved = time.monotonic()
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            self._recover()
            while self._fill():
                time.sleep(POLL)
                self._look()
        finally:
            for training in self.running:
                training.stop()
            for training in self.running:
                training.wait()
            self.trials.elapsed = self.elapsed()

    def elapsed(self) -> float:
        """Seconds that the sweep has run, in all its starts."""
        return self._before + time.monotonic() - self._started

    def threads(self) -> int | None:
        """Threads of each training: its share of the cores, or fewer if params.yaml has fewer.

        None if the sweep sets them.
        """
        hardware = self.sweep.params.hardware
        if "hardware.threads" in {**self.sweep.space, **self.sweep.content.fixed}:
            return None
        share = max(1, available_cores() // (self.jobs * (hardware.processes or 1)))
        return min(share, hardware.threads or share)

    # Starting

    def _recover(self) -> None:
        """Finish what an earlier start of the sweep began, and queue what it did not finish."""
        self.trials.recover()
        for trial in self.trials.all():
            if trial.state == "running":
                for training in self._trainings(trial):
                    training.wait_for_orphan()
                    if not self._collect(training):
                        self.waiting.append(training)
        self.parent.update(self.trials)

    def _fill(self) -> bool:
        """Start trainings while there is room. Returns whether any runs."""
        while len(self.running) < self.jobs:
            if not self.waiting:
                trial = self.trials.begin(self.threads()) if self._has_budget() else None
                if trial is None:
                    break
                self.waiting += self._trainings(trial)
            training = self.waiting.popleft()
            training.start({**self.parent.tags(), TRIAL_TAG: str(training.trial.index)})
            self.running.append(training)
        return bool(self.running)

    def _has_budget(self) -> bool:
        content = self.sweep.content
        enough = content.trials is not None and len(self.trials.all()) >= content.trials
        late = content.minutes is not None and self.elapsed() >= 60 * content.minutes
        return not (enough or late)

    def _trainings(self, trial: Trial) -> list[Training]:
        """The trainings of a trial, one for each seed; only the first is watched."""
        first, *others = self.sweep.seeds
        watched = self._training(trial, first)
        if self.sweep.content.pruner != "none":
            tags = SWEEP_TAG, self.setup["identity"]
            watched.watch = TrainingWatch(watched.job.experiment, *tags, self.sweep.curve)
        return [watched, *(self._training(trial, seed) for seed in others)]

    def _training(self, trial: Trial, seed: int | None) -> Training:
        seeds = {} if seed is None else {"seed": seed}
        settings = {**self.sweep.content.fixed, **trial.settings, **seeds}
        job = Job(
            experiment=experiment_name(self.setup["identity"], trial.index, seed),
            root=str(self.root),
            folder=str(self.folder),
            head=self.setup["head"],
            files=self.setup["files"],
            cache=self.setup["cache"],
            overrides=[f"{name}={hydra(value)}" for name, value in settings.items()],
            starter=os.getpid(),
        )
        return Training(trial, seed, job)

    # Collecting

    def _look(self) -> None:
        """Collect the trainings that have exited, and stop the hopeless ones."""
        for training in list(self.running):
            if training not in self.running:  # another seed of its trial failed
                continue
            if not training.exited():
                self._prune_if_hopeless(training)
                continue
            self.running.remove(training)
            index = training.trial.index
            self.seconds[index] = self.seconds.get(index, 0.0) + training.seconds
            if not self._collect(training):
                self._give_up(training)
        if time.monotonic() - self._saved > SAVE_TIME:
            self._saved = time.monotonic()
            self.trials.elapsed = self.elapsed()

    def _collect(self, training: Training) -> bool:
        """Fetch a training's experiment into the project. Returns whether it is complete."""
        job, trial, metric = training.job, training.trial, self.sweep.content.metric
        value = job.trees.score(job.experiment, job.head, metric)
        if value is None and job.trees.fetch(job.experiment, job.head):
            value = job.trees.score(job.experiment, job.head, metric)
        if value is None:
            return False
        values = self.values.setdefault(trial.index, {})
        values[training.seed] = value
        if len(values) == len(self.sweep.seeds):
            mean = statistics.fmean(values.values())
            self.trials.finish(trial, mean, self.seconds.get(trial.index))
            self.failures = 0
            self._say(trial)
        remove(job.trees.tree(job.experiment))
        return True

    def _prune_if_hopeless(self, training: Training) -> None:
        if training.watch is None or training.pruned:
            return
        for step, value in training.watch.new_scores():
            if self.trials.report(training.trial, step, value) and not training.pruned:
                training.pruned = f"{self.sweep.content.metric} {value:.4f} at step {step}"
                training.watch.mark(training.pruned)
                training.stop()

    def _give_up(self, training: Training) -> None:
        """Record a trial that was pruned or failed, and stop its other seeds."""
        trial = training.trial
        others = [other for other in self.running if other.trial.index == trial.index]
        for other in others:
            other.stop()
        for other in others:
            other.wait()
            self.running.remove(other)
        self.waiting = deque(each for each in self.waiting if each.trial.index != trial.index)
        state = "pruned" if training.pruned else "failed"
        note = training.pruned or training.failure()
        self.trials.give_up(trial, state, self.seconds.get(trial.index), note)
        self._say(trial)
        for each in (training, *others):
            remove(each.job.trees.tree(each.job.experiment))
        self.failures = 0 if training.pruned else self.failures + 1
        if self.failures >= FAILURES:
            raise ValueError(
                f"{FAILURES} trials in a row failed; what the last one printed is in "
                f"{os.path.relpath(training.job.log, self.root)}"
            )

    def _say(self, trial: Trial) -> None:
        self.parent.update(self.trials)
        self.show(next(each for each in self.trials.all() if each.index == trial.index))


def _interrupt(number: int, frame: Any) -> None:
    del frame
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")
