"""The pictures of an evaluation."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyllm.pictures.figure import BLUE, DARK, GREY, ORANGE, SOFT, picture

Rows = Sequence[dict[str, float]]


def comparison(path: Path, bits_per_byte: dict[str, float]) -> None:
    """Draw bits per byte of several ways to predict or compress the same text, as bars."""

    def draw(axes: Any) -> None:
        names = list(bits_per_byte)
        colours = [GREY] * (len(names) - 1) + [ORANGE]
        bars = axes.barh(names, list(bits_per_byte.values()), color=colours, height=0.62)
        axes.bar_label(bars, fmt="%.3f", padding=4, fontsize=9)
        axes.set(xlabel="bits per byte of the test text (lower is better)")
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()

    picture(path, (6.4, 2.4), draw)


def context_use(path: Path, places: Rows, context: Rows, document: Rows) -> None:
    """Draw the loss by the number of tokens that the model sees, and by place in the document.

    Args:
        places: the loss at each place of the context.
        context, document: the loss in doubling steps.
    """

    def draw(left: Any, right: Any) -> None:
        x, y = ([row[name] for row in places] for name in ("place", "loss"))
        left.plot(x, y, linestyle="none", marker=".", markersize=3, color=SOFT)
        for axes, rows, colour in ((left, context, ORANGE), (right, document, BLUE)):
            middle = [math.sqrt(row["first"] * row["last"]) for row in rows]
            loss = [row["loss"] for row in rows]
            axes.plot(middle, loss, color=colour, marker="o", markersize=4, linewidth=1.4)
            for row, at in ((rows[0], (6, 4)), (rows[-1], (2, 9))):
                axes.annotate(
                    f"{row['loss']:.2f}",
                    (math.sqrt(row["first"] * row["last"]), row["loss"]),
                    xytext=at, textcoords="offset points", color=colour, fontsize=9,
                    ha="left" if row is rows[0] else "center",
                )  # fmt: skip
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.minorticks_off()
        left.set(xlabel="tokens that the model sees", ylabel="loss (nats per token)")
        right.set(xlabel="place of the token in its document")
        right.tick_params(labelleft=False)

    picture(path, (7.2, 3.2), draw, ncols=2, sharey=True)


def reliability(path: Path, bins: Rows, error: float) -> None:
    """Draw how often the most likely token is right at each confidence, and how many tokens."""

    def draw(upper: Any, lower: Any) -> None:
        confidence, accuracy, tokens = (
            [row[name] for row in bins] for name in ("confidence", "accuracy", "tokens")
        )
        upper.plot([0, 1], [0, 1], color=DARK, linewidth=0.9, linestyle=(0, (4, 3)))
        upper.plot(confidence, accuracy, color=ORANGE, marker="o", markersize=4.5, linewidth=1.4)
        upper.text(0.03, 0.93, f"calibration error {error:.1%}", color=ORANGE, fontsize=9.5)
        upper.text(0.97, 0.05, "overconfident", ha="right", color=DARK, fontsize=9)
        upper.text(0.03, 0.85, "underconfident", color=DARK, fontsize=9)
        upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        shares = [count / sum(tokens) for count in tokens]
        left = [row["low"] for row in bins]
        lower.bar(left, shares, width=[row["high"] - row["low"] for row in bins], align="edge",
                  color=GREY, edgecolor="white", linewidth=0.6)  # fmt: skip
        lower.set(xlabel="confidence: probability of the most likely token", ylabel="tokens")
        for axis in (upper.xaxis, upper.yaxis, lower.xaxis, lower.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        lower.grid(visible=False, axis="x")
        lower.yaxis.get_major_locator().set_params(nbins=3)

    picture(path, (4.6, 5.0), draw, nrows=2, sharex=True, height_ratios=[3.4, 1])


def frequency(path: Path, classes: Rows) -> None:
    """Draw the share of tokens and of the loss by how often the training split has the token."""

    def draw(axes: Any) -> None:
        names = [between(row["least"], row["most"]) for row in classes]
        rows = range(len(classes))
        for name, offset, colour in (
            ("share_of_tokens", -0.19, GREY),
            ("share_of_loss", 0.19, ORANGE),
        ):
            shares = [row[name] for row in classes]
            bars = axes.barh([row + offset for row in rows], shares, height=0.36, color=colour)
            axes.bar_label(bars, [f"{share:.1%}" for share in shares], padding=3, fontsize=8.5)
        axes.set_yticks(list(rows), names)
        axes.set(xlabel="share", ylabel="times in the training split")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()

    picture(path, (6.4, 0.6 + 0.55 * len(classes)), draw)


def between(least: float, most: float) -> str:
    """Name the numbers from `least` to `most`."""
    return f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
