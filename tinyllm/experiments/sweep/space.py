"""The values that a sweep's settings may have: lists and ranges."""

import math
import random
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from tinyllm.settings.cross_checks import show
from tinyllm.settings.load import Params, explain
from tinyllm.settings.section import Section

Point = dict[str, Any]  # the value of each varied setting


class Range(Section):
    """Numbers from `low` to `high`, both included."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False


@dataclass(frozen=True)
class Choices:
    """A list of values."""

    values: tuple[Any, ...]


Values = Choices | Range


def listed(values: Values) -> list[Any] | None:
    """The values in order; None for a range without steps."""
    if isinstance(values, Choices):
        return list(values.values)
    if values.step is None:
        return None
    count = math.floor((values.high - values.low) / values.step + 1e-9) + 1
    return [values.low + number * values.step for number in range(count)]


def read_values(name: str, given: Any) -> Values:
    """Read a list or a range.

    Raises:
        ValueError: it is neither, or it is empty; each line is the end of a message.
    """
    if isinstance(given, list):
        if not given:
            raise ValueError(": must have at least one value")
        if len({repr(value) for value in given}) < len(given):
            raise ValueError(f" = {show(given)}: must not have a value twice")
        return Choices(tuple(given))
    if not isinstance(given, dict):
        raise ValueError(
            f" = {show(given)}: must be a list of values, or a range like "
            "{low: 0.001, high: 0.01, log: true}"
        )
    try:
        found = Range.model_validate(given)
    except ValidationError as failure:
        wrong = dict(map(explain, failure.errors()))
        # A number has an error for each type that it may have.
        lines = {f".{key.split('.')[0]}": why for key, why in wrong.items()}
        raise ValueError("\n".join(key + why for key, why in lines.items())) from None
    if found.low >= found.high:
        raise ValueError(f".low = {show(found.low)}: must be below high = {show(found.high)}")
    if found.log and (found.low <= 0 or found.step is not None):
        raise ValueError(".log = true: needs low above 0, and no step")
    if found.step is not None and found.step <= 0:
        raise ValueError(f".step = {show(found.step)}: must be above 0")
    numbers = (found.low, found.high, found.step or 0)
    if is_real(name) or not all(isinstance(number, int) for number in numbers):
        step = None if found.step is None else float(found.step)
        return Range(low=float(found.low), high=float(found.high), step=step, log=found.log)
    return found if found.log or found.step else found.model_copy(update={"step": 1})


def is_real(name: str) -> bool:
    """Whether a setting may be a number that is not whole."""
    section, _, key = name.partition(".")
    fields = getattr(Params.model_fields[section].annotation, "model_fields", {})
    annotation = fields[key].annotation if key in fields else None
    return float in (annotation, *get_args(annotation), *map(_bare, get_args(annotation)))


def _bare(annotation: Any) -> Any:
    """The type in `Annotated[type, ...]`."""
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def draw(space: dict[str, Values], chance: random.Random) -> Point:
    """A point of the space by chance."""
    point: Point = {}
    for name, values in space.items():
        few = listed(values)
        if few is not None:
            point[name] = chance.choice(few)
        else:
            assert isinstance(values, Range)
            low, high = map(math.log, (values.low, values.high)) if values.log else (
                values.low, values.high)  # fmt: skip
            number = chance.uniform(low, high)
            number = math.exp(number) if values.log else number
            point[name] = round(number) if isinstance(values.low, int) else number
    return point
