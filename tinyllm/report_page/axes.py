"""Where a chart's parts are: ticks, and the paths of its series. page.js does the same on zoom.

Coordinates run from 0 to `SIDE` in both directions, from the upper left corner. The page stretches
them to the size of the plot, so a chart needs no script and fits every screen.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

SIDE = 1000
Axis = Mapping[str, Any]
Point = tuple[float, float]


def text(value: float | None, form: str, step: float | None = None) -> str:
    """Format a value of an axis.

    Args:
        form: "integer", "percent" or "decimal".
        step: distance of the ticks, which decides the decimals; None for a single value.
    """
    if value is None:
        return "not finite"
    if form == "integer":
        return f"{value:,.0f}"
    if form == "percent":
        return f"{value:.1%}" if step is None else f"{value:.0%}"
    if value == 0 and step is not None:
        return "0"
    if step is None:
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}" if decimals <= 4 else f"{value:.1e}".replace("e-0", "e-")


def ticks(axis: Axis, count: int = 5) -> list[tuple[float, str]]:
    """About `count` round values on an axis: the place of each, and its text."""
    low, high = axis["low"], axis["high"]
    if axis["scale"] == "log2":
        powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high) + 1e-9) + 1)
        stride = math.ceil(len(powers) / (count + 3))
        values = [2.0**power for power in powers][::stride]
        return [(place(value, axis), text(value, axis["form"])) for value in values]
    step = _round_step((high - low) / count)
    if axis["form"] == "integer":
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [
        (place(n * step, axis), text(n * step, axis["form"], step)) for n in range(first, last + 1)
    ]


def _round_step(size: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not far below `size`."""
    power = 10.0 ** math.floor(math.log10(size))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= 0.7 * size))


def place(value: float, axis: Axis) -> float:
    """The distance of a value from the beginning of its axis, as a fraction of its length."""
    low, high = axis["low"], axis["high"]
    if axis["scale"] == "log2":
        low, high, value = math.log2(low), math.log2(high), math.log2(value)
    return round((value - low) / (high - low), 4)


def path(series: Mapping[str, Any], x: Axis, y: Axis) -> str:
    """The line, the band or the dots of a series as the path of an SVG."""
    if series["style"] == "band":
        return _band(series, x, y)
    if series["style"].startswith("dots"):
        return dots(series, x, y)
    return "".join(_polyline(run) for run in _runs(_points(series["x"], series["y"], x, y)))


def dots(series: Mapping[str, Any], x: Axis, y: Axis) -> str:
    """The points of a series as the path of an SVG: lines of no length, with round ends."""
    points = _points(series["x"], series["y"], x, y)
    return "".join(f"M{at:g} {height:g}h0" for run in _runs(points) for at, height in run)


def _band(series: Mapping[str, Any], x: Axis, y: Axis) -> str:
    """The area between `low` and `high`, along the upper edge and back along the lower one."""
    upper = _runs(_points(series["x"], series["high"], x, y))
    lower = _runs(_points(series["x"], series["low"], x, y))
    return "".join(
        f"{_polyline([*high, *reversed(low)])}Z" for high, low in zip(upper, lower, strict=True)
    )


def _points(
    across: Sequence[float], values: Sequence[float | None], x: Axis, y: Axis
) -> list[Point | None]:
    """Coordinates, None for a gap. What is far outside of the plot is just outside of it."""
    far = 4 * SIDE
    return [
        None
        if value is None
        else (
            round(SIDE * place(at, x), 1),
            max(-far, min(far, round(SIDE * (1 - place(value, y)), 1))),
        )
        for at, value in zip(across, values, strict=True)
    ]


def _runs(points: Sequence[Point | None]) -> list[list[Point]]:
    """The points between the gaps."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _polyline(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{at:g} {height:g}" for at, height in points)
