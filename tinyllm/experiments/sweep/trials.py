"""The trials of a sweep, in Optuna's storage: a SQLite file, which survives any kill."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.experiments.sweep.settings import Sweep
from tinyllm.experiments.sweep.space import Choices, Point, Values

if TYPE_CHECKING:
    import optuna

DATABASE = "trials.db"
SETUP, ELAPSED = "setup", "elapsed"  # attributes of the study
INDEX, SETTINGS, SKIPPED, SECONDS, NOTE = "index", "settings", "skipped", "seconds", "note"
MOST_DRAWS = 100  # in a row that give a point that was tried or is impossible
DIGITS = 4  # of a drawn number that may be any of a range
STARTUP = 4  # trials that finish before a pruner compares any


@dataclass(frozen=True)
class Trial:
    """A point of the space, and what came of it.

    Attributes:
        number: Optuna's.
        index: counts the trials that were started, from 1.
        settings: the point, and the threads of its trainings.
        state: running, complete, pruned or failed.
        value: of the metric: the mean over the seeds; of a pruned trial, the last one.
        seconds: that it took, without interruptions; None if unknown.
        note: why it did not complete.
        ended: when, in seconds since 1970; None if it runs.
    """

    number: int
    index: int
    settings: Point
    state: str
    value: float | None = None
    seconds: float | None = None
    note: str = ""
    ended: float | None = None


class Trials:
    """The trials of one sweep; only the process that runs the sweep may change them."""

    def __init__(self, study: "optuna.Study", sweep: Sweep) -> None:
        self.study = study
        self.sweep = sweep

    @classmethod
    def open(cls, folder: Path, sweep: Sweep) -> "Trials":
        """Open the storage in a sweep's folder, or create it."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            storage=f"sqlite:///{folder / DATABASE}",
            study_name=sweep.content.name,
            direction=sweep.direction,
            load_if_exists=True,
        )
        return cls(study, sweep)

    @property
    def setup(self) -> dict[str, Any] | None:
        """What all trials share; None before it is recorded."""
        return self.study.user_attrs.get(SETUP)

    @setup.setter
    def setup(self, value: dict[str, Any]) -> None:
        self.study.set_user_attr(SETUP, value)

    @property
    def elapsed(self) -> float:
        """Seconds that the sweep has run, in all its starts."""
        return float(self.study.user_attrs.get(ELAPSED, 0.0))

    @elapsed.setter
    def elapsed(self, seconds: float) -> None:
        self.study.set_user_attr(ELAPSED, seconds)

    def all(self) -> list[Trial]:
        """The trials that were started, in order."""
        return [
            Trial(
                number=frozen.number,
                index=frozen.user_attrs[INDEX],
                settings=frozen.user_attrs[SETTINGS],
                state=frozen.state.name.lower().replace("fail", "failed"),
                value=frozen.value,
                seconds=frozen.user_attrs.get(SECONDS),
                note=frozen.user_attrs.get(NOTE, ""),
                ended=_timestamp(frozen.datetime_complete),
            )
            for frozen in self.study.get_trials(deepcopy=False)
            if INDEX in frozen.user_attrs
        ]

    def best(self) -> Trial | None:
        """The best complete trial; None if none is complete."""
        return min(filter(lambda trial: trial.state == "complete", self.all()), key=self.rank,
                   default=None)  # fmt: skip

    def rank(self, trial: Trial) -> float:
        """A number that is smaller for a better value."""
        if trial.value is None:
            return math.inf
        return trial.value if self.sweep.direction == "minimize" else -trial.value

    def begin(self, threads: int | None) -> Trial | None:
        """Choose a point that was not tried and start a trial of it; None if there is none.

        Args:
            threads: of each training of the trial; None if the sweep sets it.
        """
        tried = {_key(self.point(trial)) for trial in self.all()}
        for _ in range(MOST_DRAWS):
            if self.sweep.content.sampler == "grid":
                break
            if (trial := self._settle(self._ask(), tried, threads)) is not None:
                return trial
        for point in self._points():
            if _key(point) not in tried and not self.sweep.faults(point):
                encoded = {name: _encode(self.sweep.space[name], v) for name, v in point.items()}
                self.study.enqueue_trial(encoded)
                return self._settle(self._ask(), tried, threads)
        return None

    def point(self, trial: Trial) -> Point:
        """The values of the varied settings in a trial."""
        return {name: trial.settings[name] for name in self.sweep.space}

    def finish(self, trial: Trial, value: float, seconds: float | None) -> None:
        """Record that a trial is complete."""
        self._describe(trial, seconds, "")
        self.study.tell(trial.number, value)

    def give_up(self, trial: Trial, state: str, seconds: float | None, note: str) -> None:
        """Record that a trial was pruned, or that it failed."""
        from optuna.trial import TrialState

        self._describe(trial, seconds, note)
        states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self.study.tell(trial.number, state=states[state])

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Record a value during a training. Returns whether the trial is hopeless."""
        live = self._live(trial.number)
        if step not in self.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
            live.report(value, step)
        self.study.pruner = _pruner(self.sweep)
        return live.should_prune()

    def recover(self) -> None:
        """Close the trials whose choice was interrupted; nothing was trained for them."""
        from optuna.trial import TrialState

        for frozen in self.study.get_trials(deepcopy=False):
            if frozen.state == TrialState.RUNNING and INDEX not in frozen.user_attrs:
                self._skip(frozen.number, "interrupted")

    def _ask(self) -> "optuna.Trial":
        # Seeded by the trial's number: after an interruption, the same points are drawn.
        self.study.sampler = _sampler(self.sweep, len(self.study.get_trials(deepcopy=False)))
        return self.study.ask(
            {name: _distribution(values) for name, values in self.sweep.space.items()}
        )

    def _settle(
        self, asked: "optuna.Trial", tried: set[str], threads: int | None
    ) -> Trial | None:  # fmt: skip
        """Start a trial of a point, unless it was tried or is impossible."""
        point = {
            name: _decode(values, asked.params[name]) for name, values in self.sweep.space.items()
        }
        faults = self.sweep.faults(point)
        if faults or _key(point) in tried:
            self._skip(asked.number, "; ".join(map("".join, faults.items())) or "tried before")
            return None
        settings = point if threads is None else {**point, "hardware.threads": threads}
        index = 1 + len(self.all())
        asked.set_user_attr(SETTINGS, settings)
        asked.set_user_attr(INDEX, index)
        return Trial(asked.number, index, settings, "running")

    def _skip(self, number: int, why: str) -> None:
        from optuna.trial import TrialState

        self._live(number).set_user_attr(SKIPPED, why)
        self.study.tell(number, state=TrialState.FAIL)

    def _describe(self, trial: Trial, seconds: float | None, note: str) -> None:
        live = self._live(trial.number)
        live.set_user_attr(SECONDS, seconds)
        live.set_user_attr(NOTE, note)

    def _live(self, number: int) -> "optuna.Trial":
        """Optuna's object of a trial, also of one that an earlier process began."""
        import optuna

        frozen = self.study.get_trials(deepcopy=False)[number]
        return optuna.Trial(self.study, frozen._trial_id)

    def _points(self) -> Iterator[Point]:
        return self.sweep.points() or iter(())


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _key(point: Point) -> str:
    return json.dumps(point, sort_keys=True)


def _distribution(values: Values) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(values, Choices):
        return CategoricalDistribution([_encode(values, value) for value in values.values])
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log, step=int(values.step or 1))
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _encode(values: Values, value: Any) -> Any:
    """A value as Optuna stores it, which has no lists."""
    return json.dumps(value) if isinstance(values, Choices) and isinstance(value, list) else value


def _decode(values: Values, stored: Any) -> Any:
    if isinstance(values, Choices):
        return next(value for value in values.values if _encode(values, value) == stored)
    if isinstance(values.low, float) and values.step is None:  # 0.003538 is enough of a number
        return min(max(float(f"{stored:.{DIGITS}g}"), values.low), values.high)
    return stored


def _sampler(sweep: Sweep, number: int) -> "optuna.samplers.BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    seed = (sweep.content.sampler_seed * 1_000_003 + number) % (1 << 32)
    if sweep.content.sampler == "tpe":
        # constant_liar: trials that run at the same time differ.
        return TPESampler(seed=seed, constant_liar=True)
    return RandomSampler(seed=seed)


def _pruner(sweep: Sweep) -> "optuna.pruners.BasePruner":
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    train = sweep.params.train
    if sweep.content.pruner == "median":
        return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=train.warmup_steps)
    if sweep.content.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=train.eval_interval, reduction_factor=3)
    return NopPruner()
