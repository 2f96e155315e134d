"""The charts of the page, as specifications that both the template and the script draw.

A chart is a mapping that JSON can hold:

    id, title, about        text; `about` is a sentence below the title
    x, y                    axes: label, low, high, scale ("linear" or "log2"), form (see `axes`)
    series                  what is drawn, from back to front; see `series`
    zoom                    name of the group of charts that zoom together; absent: no zoom
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tinyllm.report_page.curves import Columns, Curve, finite
from tinyllm.report_page.thinning import thinned

Chart = dict[str, Any]
Rows = Sequence[Mapping[str, float]]
STEPS = "steps"  # the charts over the steps zoom together
START = 0.03  # fraction of the steps, at the steep start, that may lie above the plot
MOST_POSITIONS = 256  # of the context that are drawn as single dots


def axis(label: str, low: float, high: float, form: str, scale: str = "linear") -> dict[str, Any]:
    """An axis from `low` to `high`, or around `low` if there is nothing between them."""
    if not high > low:
        low, high = (low, 2 * low) if scale == "log2" else (low - 0.5, low + 0.5)
    return {"label": label, "low": low, "high": high, "form": form, "scale": scale}


def series(
    name: str,
    style: str,
    colour: str,
    x: Sequence[float],
    y: Sequence[float | None] | None = None,
    low: Sequence[float | None] | None = None,
    high: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    """One thing that a chart draws.

    Args:
        style: "line", "dots" or "line dots" of `y`; "band" from `low` to `high`; "rule", a dashed
            line without values on hover.
        colour: "blue", "orange" or "grey".
        x, y, low, high: coordinates; None is a gap.
    """
    values = {"y": y, "low": low, "high": high}
    given = {key: _rounded(value) for key, value in values.items() if value is not None}
    return {"name": name, "style": style, "colour": colour, "x": list(x), **given}


def loss(curve: Curve, evaluations: Columns, saved_step: int) -> Chart:
    """Loss of the batches and of both sets over the steps, with the saved weights' as a rule."""
    at = evaluations["step"]
    val = finite(evaluations["val_loss"])
    trend = [y for y in curve.trend if y is not None]
    best = next(
        (y for x, y in zip(at, val, strict=True) if x == saved_step and y is not None), None
    )
    known = [*trend, *(y for y in val if y is not None)] or [0.0, 1.0]
    late = trend[int(START * len(trend)) :] + [y for y in val[-1:] if y is not None]
    low, high = min(known), max(late, default=max(known))
    room = max(high - low, 1e-3)
    end = max([*curve.step, *at], default=1)
    rule = [] if best is None else [series("saved", "rule", "orange", [0, end], [best, best])]
    return {
        "id": "loss",
        "title": "Loss",
        "about": f"{curve.about} The dashed line is the validation loss of the saved weights, "
        f"from step {saved_step:,}. The first steps may lie above the plot.",
        "x": axis("step", 0, end, "integer"),
        "y": axis("nats per token", low - 0.1 * room, high + 0.05 * room, "decimal"),
        "zoom": STEPS,
        "series": [
            series("batches, lowest to highest", "band", "grey", curve.step,
                   low=curve.loss.low, high=curve.loss.high),
            series("batches, smoothed", "line", "blue", curve.step, curve.trend),
            *rule,
            series("training set", "dots", "blue", at, finite(evaluations["train_loss"])),
            series("validation set", "dots", "orange", at, val),
        ],
    }  # fmt: skip


def learning_rate(curve: Curve) -> Chart:
    """The learning rate over the steps."""
    values = [y for y in curve.learning_rate if y is not None] or [0.0]
    return {
        "id": "learning-rate",
        "title": "Learning rate",
        "about": "",
        "x": axis("step", 0, max(curve.step, default=1), "integer"),
        "y": axis("learning rate", 0, 1.06 * max(values) or 1, "decimal"),
        "zoom": STEPS,
        "series": [series("learning rate", "line", "blue", curve.step, curve.learning_rate)],
    }


def gradient_norm(curve: Curve, clip: float | None) -> Chart:
    """The norm of the gradient over the steps, with the norm above which it is clipped."""
    norms = curve.grad_norm
    means = sorted(y for y in norms.mean if y is not None) or [1.0]
    top = 1.3 * means[int(0.98 * (len(means) - 1))]  # a few spikes may lie above the plot
    end = max(curve.step, default=1)
    rule = [series("clipped above", "rule", "grey", [0, end], [clip, clip])] if clip else []
    clipped = f" Clipped above {clip:g}, the dashed line." if clip else ""
    return {
        "id": "gradient-norm",
        "title": "Gradient norm",
        "about": f"Before clipping.{clipped}",
        "x": axis("step", 0, end, "integer"),
        "y": axis("norm", 0, max(top, 1.1 * (clip or 0)), "decimal"),
        "zoom": STEPS,
        "series": [
            series("lowest to highest", "band", "grey", curve.step, low=norms.low, high=norms.high),
            series("mean", "line", "blue", curve.step, norms.mean),
            *rule,
        ],
    }


def context_use(positions: Rows, context: Rows, document: Rows) -> list[Chart]:
    """Loss by the number of tokens that the model sees, and by position in the document."""
    dots = thinned(positions, MOST_POSITIONS)
    every = [row["loss"] for rows in (dots, context, document) for row in rows]
    low, high = min(every), max(every)
    room = max(high - low, 1e-3)
    y = axis("nats per token", low - 0.06 * room, high + 0.06 * room, "decimal")
    return [
        {
            "id": "context",
            "title": "By the number of tokens that the model sees",
            "about": "If the line still falls at its end, a longer context would help.",
            "x": axis("tokens", 1, max(row["last"] for row in context), "integer", "log2"),
            "y": y,
            "series": [
                series("single positions", "dots faint", "orange",
                       [row["position"] for row in dots], [row["loss"] for row in dots]),
                _doubling("1, 2, 3 to 4, 5 to 8, ...", "orange", context),
            ],
        },
        {
            "id": "document",
            "title": "By position in the document",
            "about": "The kind of text changes with the position too. The last points are means "
            "over few documents.",
            "x": axis("tokens", 1, max(row["last"] for row in document), "integer", "log2"),
            "y": y,
            "series": [_doubling("1, 2, 3 to 4, 5 to 8, ...", "blue", document)],
        },
    ]  # fmt: skip


def _doubling(name: str, colour: str, rows: Rows) -> dict[str, Any]:
    x = [round(math.sqrt(row["first"] * row["last"]), 2) for row in rows]
    return series(name, "line dots", colour, x, [row["loss"] for row in rows])


def calibration(bins: Rows) -> Chart:
    """Accuracy over confidence, and the diagonal on which both are equal."""
    confidence, accuracy = ([row[key] for row in bins] for key in ("confidence", "accuracy"))
    return {
        "id": "calibration",
        "title": "Accuracy by confidence",
        "about": "Above the dashed diagonal, the model is right more often than it says.",
        "x": axis("probability of the most likely token", 0, 1, "percent"),
        "y": axis("accuracy", 0, 1, "percent"),
        "series": [
            series("equal", "rule", "grey", [0, 1], [0, 1]),
            series("accuracy", "line dots", "orange", [round(x, 4) for x in confidence], accuracy),
        ],
    }


def throughput(steps: Sequence[float], tokens_per_second: Sequence[float | None]) -> Chart:
    """Tokens per second over the steps."""
    known = [y for y in tokens_per_second if y is not None] or [1.0]
    return {
        "id": "throughput",
        "title": "Throughput",
        "about": "",
        "x": axis("step", 0, max(steps, default=1), "integer"),
        "y": axis("tokens per second", 0, 1.06 * max(known), "integer"),
        "zoom": STEPS,
        "series": [series("tokens per second", "line", "blue", steps, tokens_per_second)],
    }


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    """Six significant digits: more than a screen shows."""
    return [None if value is None else float(f"{value:.6g}") for value in values]
