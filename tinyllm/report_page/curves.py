"""The curves of a training, read from its reports and thinned to what a screen shows."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyllm.common.errors import RunAgain
from tinyllm.pictures.loss import smooth
from tinyllm.report_page.thinning import sampled, size_of_groups

# As tinyllm/training/report.py names them, which imports all of training.
STEPS, EVALUATIONS = "steps.csv", "evaluations.csv"
MOST_GROUPS = 600  # of steps that a curve shows
MOST_EVALUATIONS = 200

Columns = dict[str, list[float]]
Values = list[float | None]  # None: not finite


@dataclass(frozen=True)
class Groups:
    """A quantity over groups of consecutive steps: mean, lowest and highest of each."""

    mean: Values
    low: Values
    high: Values


@dataclass(frozen=True)
class Curve:
    """The steps of a training, in groups.

    Attributes:
        step: the middle step of each group.
        trend: the loss of the batches, smoothed.
        about: a sentence that states how the steps were joined.
    """

    step: list[float]
    loss: Groups
    trend: Values
    learning_rate: Values
    grad_norm: Groups
    about: str


@dataclass(frozen=True)
class Curves:
    """The steps of a training, and its evaluations: a list for each column of their table."""

    steps: Curve
    evaluations: Columns


def read_curves(folder: Path, saved_step: int) -> Curves:
    """The curves in a training's reports.

    Raises:
        RunAgain: a table is corrupt.
    """
    return Curves(_read_steps(folder), _read_evaluations(folder, saved_step))


def read_columns(path: Path) -> Columns:
    """The columns of a table of numbers; an empty field is NaN, as pandas writes it.

    Raises:
        RunAgain: it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            names, *rows = csv.reader(file)
        columns = list(
            zip(*[[float(field or "nan") for field in row] for row in rows], strict=True)
        )
    except (ValueError, csv.Error):  # not UTF-8, empty, no numbers, rows of several lengths
        raise RunAgain(f"{path} is corrupt") from None
    if "step" not in names or len(names) != len(columns):
        raise RunAgain(f"{path} is corrupt")
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _read_steps(folder: Path) -> Curve:
    """The steps in a training's reports."""
    table = read_columns(folder / STEPS)
    count = len(table["step"])
    size, reach = size_of_groups(count, MOST_GROUPS), count // 60
    losses = table["loss"]
    calm = all(map(math.isfinite, losses))  # else the mean of everything after is not finite
    about = f"{count:,} steps."
    if size > 1:
        about = f"{count:,} steps, in groups of {size}: the band is the lowest to the highest loss."
    if calm and reach:
        about += f" The line is a mean over up to {2 * reach + 1} steps."
    return Curve(
        step=[(part[0] + part[-1]) / 2 for part in _parts(table["step"], size)],
        loss=_groups(losses, size),
        trend=_groups(smooth(losses, reach) if calm else losses, size).mean,
        learning_rate=_groups(table["learning_rate"], size).mean,
        grad_norm=_groups(table["grad_norm"], size),
        about=about,
    )


def _read_evaluations(folder: Path, saved_step: int) -> Columns:
    """The evaluations in a training's reports: at most about `MOST_EVALUATIONS`.

    The first, the last, and the one of the saved weights are among them.
    """
    table = read_columns(folder / EVALUATIONS)
    saved = [place for place, step in enumerate(table["step"]) if step == saved_step]
    places = sampled(len(table["step"]), MOST_EVALUATIONS, saved)
    return {name: [column[place] for place in places] for name, column in table.items()}


def finite(values: Sequence[float]) -> Values:
    """The values, with None for those that are not finite."""
    return [value if math.isfinite(value) else None for value in values]


def _parts(values: Sequence[float], size: int) -> list[Sequence[float]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def _groups(values: Sequence[float], size: int) -> Groups:
    parts = [[v for v in part if math.isfinite(v)] for part in _parts(values, size)]
    return Groups(
        mean=[sum(part) / len(part) if part else None for part in parts],
        low=[min(part, default=None) for part in parts],
        high=[max(part, default=None) for part in parts],
    )
