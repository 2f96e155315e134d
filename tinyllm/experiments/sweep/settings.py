"""sweep.yaml: which settings to vary, how to choose their values, and when to stop."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from tinyllm.data.sources.catalogue import check_source
from tinyllm.experiments.sweep.space import Choices, Point, Values, draw, listed, read_values
from tinyllm.settings import strict_yaml
from tinyllm.settings.cross_checks import show
from tinyllm.settings.load import Params, check_params, explain, flatten
from tinyllm.settings.section import Count, Positive, Section, Text
from tinyllm.tracking.curves import curve

# What can't be varied, and why.
NOT_VARIED = {
    "seed": "list the seeds under `seeds`",
    "runtime.": "changes no result",
    "evaluate.": "does not change the training",
    "download.": "changes the validation text, so the scores of two trials can't be compared",
    "split.": "changes the validation text, so the scores of two trials can't be compared",
    "train.eval_tokens": "changes the validation text, so the scores of two trials can't be "
    "compared",
}
Direction = Literal["minimize", "maximize"]
METRICS: dict[str, Direction] = {
    "val.bits_per_byte": "minimize",
    "val.loss": "minimize",
    "val.accuracy": "maximize",
}
MOST_LISTED = 1000  # points of a space that are all checked before the first trial
DRAWN = 200  # points of a larger space that are checked


class SweepFile(Section):
    """The content of sweep.yaml."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]
    vary: Annotated[dict[str, Any], Field(min_length=1)]
    fixed: dict[str, Any] = Field(default_factory=dict, alias="set")
    sampler: Literal["grid", "random", "tpe"] = "tpe"
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 63)]], Field(min_length=1)] | None = (
        None
    )
    trials: Count | None = None
    minutes: Positive | None = None
    pruner: Literal["none", "median", "halving"] = "none"
    metric: Text = "val.bits_per_byte"
    sampler_seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0


@dataclass(frozen=True)
class Sweep:
    """A checked sweep.yaml.

    Attributes:
        content: the file.
        space: the values of each varied setting.
        base: params.yaml with the settings under `set`.
    """

    content: SweepFile
    space: dict[str, Values]
    base: dict[str, Any]

    @property
    def direction(self) -> Direction:
        """Whether the metric is better when it is smaller or larger, in Optuna's words."""
        return METRICS[self.content.metric]

    @property
    def curve(self) -> str:
        """The metric's name in the record of a training."""
        split, measure = self.content.metric.split(".")
        return curve(measure, split)

    @property
    def seeds(self) -> Sequence[int | None]:
        """The seeds of each point's trainings; None for that of params.yaml."""
        return self.content.seeds or [None]

    @property
    def params(self) -> Params:
        """The settings that all trials share; varied ones have the value of params.yaml."""
        return Params.model_validate(self.base)

    def points(self) -> Iterator[Point] | None:
        """All points of the space; None if it has a range without steps."""
        values = [listed(each) for each in self.space.values()]
        finite = [each for each in values if each is not None]
        if len(finite) < len(values):
            return None
        return (dict(zip(self.space, point, strict=True)) for point in itertools.product(*finite))

    def faults(self, point: Point) -> dict[str, str]:
        """What is wrong with a point, by the name of the setting."""
        return check_params(with_settings(self.base, point), check_source)[1]


def load_sweep(path: Path, params: Path) -> Sweep:
    """Read and check sweep.yaml against params.yaml.

    Raises:
        ValueError: settings are wrong; one line for each.
    """
    try:
        raw = strict_yaml.load(path.read_text(encoding="utf-8"))
        base = strict_yaml.load(params.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path.name}: must contain settings like `vary`, but contains {raw!r}")
    errors = dict[str, str]()
    try:
        content = SweepFile.model_validate({"name": path.stem, **raw})
    except ValidationError as failure:
        errors = dict(map(explain, failure.errors()))
        # Checks what is left, so that all errors are reported at once.
        parts = {"vary": raw.get("vary"), "set": raw.get("set")}
        usable: Any = {name: part if isinstance(part, dict) else {} for name, part in parts.items()}
        content = SweepFile.model_construct(**usable)
    known = flatten(base)
    fixed = {name: value for name, value in content.fixed.items() if name in known}
    base = with_settings(base, fixed)
    errors |= _wrong_fixed(content, known, base)
    space, wrong = _read_space(content.vary, known, base)
    errors |= wrong
    if not errors:
        sweep = Sweep(content, space, base)
        errors |= _contradictions(sweep)
    if errors:
        lines = [f"{key}{message}" for key, message in errors.items()]
        raise ValueError("\n".join([f"{path.name} has {len(lines)} wrong setting(s):", *lines]))
    return sweep


def with_settings(base: dict[str, Any], settings: Point) -> dict[str, Any]:
    """A copy of params.yaml's content with other values of some settings."""
    changed = {key: dict(part) if isinstance(part, dict) else part for key, part in base.items()}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        if key:
            changed[section][key] = value
        else:
            changed[section] = value
    return changed


def _wrong_fixed(content: SweepFile, known: dict[str, Any], base: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the settings under `set`."""
    errors = {}
    for name in content.fixed:
        if name not in known:
            errors[f"set.{name}"] = ": is not a setting of params.yaml"
        elif name in content.vary:
            errors[f"set.{name}"] = ": is under `vary` too"
        elif name == "seed":
            errors[f"set.{name}"] = ": list the seed under `seeds`"
    wrong = check_params(base, check_source, together=False)[1]
    return errors | {(f"set.{k}" if k in content.fixed else k): v for k, v in wrong.items()}


def _read_space(
    vary: dict[str, Any], known: dict[str, Any], base: dict[str, Any]
) -> tuple[dict[str, Values], dict[str, str]]:
    """The values of each varied setting, and what is wrong with them."""
    space, errors = dict[str, Values](), dict[str, str]()
    for name, given in vary.items():
        barred = [why for start, why in NOT_VARIED.items() if name.startswith(start)]
        if barred or name not in known:
            errors[f"vary.{name}"] = f": {barred[0] if barred else 'is not a setting'}"
            continue
        try:
            space[name] = values = read_values(name, given)
        except ValueError as error:
            errors |= {f"vary.{name}{line}": "" for line in str(error).splitlines()}
            continue
        ends = values.values if isinstance(values, Choices) else (values.low, values.high)
        for value in ends:
            wrong = check_params(with_settings(base, {name: value}), together=False)[1]
            found = {key: why for key, why in wrong.items() if (key + ".").startswith(f"{name}.")}
            errors |= {f"vary.{key}{why}": "" for key, why in found.items()}
    return space, errors


def _contradictions(sweep: Sweep) -> dict[str, str]:
    """What is wrong with settings that are valid alone."""
    content, errors = sweep.content, dict[str, str]()
    if content.metric not in METRICS:
        errors["metric"] = f" = {show(content.metric)}: must be one of {', '.join(METRICS)}"
        if content.metric.startswith("test"):
            errors["metric"] += "; a test score that chose the settings would be too good"
    points = sweep.points()
    if content.sampler == "grid" and points is None:
        errors["sampler"] = " = 'grid': needs lists, or ranges with a step"
    elif points is None and content.trials is None and content.minutes is None:
        errors["trials"] = ": is missing: give `trials` or `minutes`, or both"
    if content.pruner != "none" and sweep.params.runtime.tracker == "none":
        errors["pruner"] = f" = {show(content.pruner)}: needs runtime.tracker: mlflow"
    if content.seeds and len(set(content.seeds)) < len(content.seeds):
        errors["seeds"] = f" = {show(content.seeds)}: must not have a seed twice"
    return errors or _impossible(sweep)


def _impossible(sweep: Sweep) -> dict[str, str]:
    """The values that fit no values of the other settings; those of `sweep.points()` or of some."""
    points = sweep.points()
    chance = random.Random(sweep.content.sampler_seed)
    drawn = (draw(sweep.space, chance) for _ in range(DRAWN))
    sample = list(itertools.islice(points, MOST_LISTED + 1)) if points is not None else list(drawn)
    all_of_them = points is not None and len(sample) <= MOST_LISTED
    wrong, fitting = dict[str, str](), list[Point]()
    for point in sample:
        if found := sweep.faults(point):
            wrong |= found
        else:
            fitting.append(point)
    if not fitting:
        return {f"vary: no combination of values is valid: {k}": v for k, v in wrong.items()}
    if not all_of_them:
        return {}
    errors = {}
    for name, values in sweep.space.items():
        used = {repr(point[name]) for point in fitting}
        for value in listed(values) or []:
            if repr(value) not in used:
                point = next(point for point in sample if repr(point[name]) == repr(value))
                key, why = next(iter(sweep.faults(point).items()))
                errors[f"vary.{name} = {show(value)}"] = (
                    f": is valid with no value of the others: {key}{why}"
                )
    return errors
