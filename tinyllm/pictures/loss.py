"""The picture of a training: its loss over the steps."""

import itertools
import math
from pathlib import Path
from typing import Any

from tinyllm.pictures.figure import BLUE, ORANGE, PALE, picture

LOSS = "loss.png"  # in the reports of a training
_START = 0.03  # fraction of the steps, at the steep start, that may lie above the plot


def loss_curve(
    path: Path,
    steps: list[dict[str, float]],
    evaluations: list[dict[str, float]],
    best_step: int,
) -> None:
    """Draw training and validation loss over the steps, and mark the best evaluation."""
    best = next(row for row in evaluations if row["step"] == best_step)
    batches = [row["loss"] for row in steps]
    trend = smooth(batches, reach=len(batches) // 60)

    def draw(axes: Any) -> None:
        x = [row["step"] for row in steps]
        axes.plot(x, batches, color=PALE, linewidth=0.7)
        axes.plot(x, trend, color=BLUE, linewidth=1.4, label="training batches, smoothed")
        for split, label, style in (
            ("train", "training set", {"marker": "s", "color": BLUE, "markersize": 4.5}),
            ("val", "validation set", {"marker": "o", "color": ORANGE, "markersize": 5}),
        ):
            y = [row[f"{split}_loss"] for row in evaluations]
            at = [row["step"] for row in evaluations]
            axes.plot(at, y, linestyle="none", markeredgecolor="white", label=label, **style)
        _mark_best(axes, best)
        _set_limits(axes, trend, [row["val_loss"] for row in evaluations])
        axes.set(xlabel="step", ylabel="loss (nats per token)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper right")
        if best["val_loss"] > 0:
            ratio = best["val_bits_per_byte"] / best["val_loss"]  # the same at every step
            right = axes.secondary_yaxis(
                "right", functions=(lambda y: y * ratio, lambda y: y / ratio)
            )
            right.set_ylabel("bits per byte (validation set)")
            right.spines["right"].set_visible(True)

    picture(path, (6.8, 4.2), draw)


def smooth(values: list[float], reach: int) -> list[float]:
    """Mean over `reach` values on each side, so that it does not lag behind a falling curve.

    Near the start, where the curve falls fast, the window shrinks to stay symmetric.
    """
    sums = [0.0, *itertools.accumulate(values)]
    averages = []
    for place in range(len(values)):
        width = min(reach, place)
        first, last = place - width, min(place + width + 1, len(values))
        averages.append((sums[last] - sums[first]) / (last - first))
    return averages


def _mark_best(axes: Any, best: dict[str, float]) -> None:
    """Draw a line at the lowest validation loss, with its value in the title above all curves."""
    loss = best["val_loss"]
    axes.axhline(loss, color=ORANGE, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_title(
        f"best: {loss:.3f} nats per token, {best['val_bits_per_byte']:.3f} bits per byte, "
        f"step {best['step']:.0f}",
        loc="left", fontsize=9, color=ORANGE,
    )  # fmt: skip


def _set_limits(axes: Any, trend: list[float], validation: list[float]) -> None:
    """Set the y-axis to show the end in detail; the first steps may lie above the plot."""
    validation = [loss for loss in validation if math.isfinite(loss)]
    lowest = min([*trend, *validation])
    top = max([*trend[int(_START * len(trend)) :], validation[-1]])
    room = max(top - lowest, 1e-3)
    axes.set_ylim(lowest - 0.12 * room, top + 0.03 * room)
