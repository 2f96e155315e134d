"""The pictures of an evaluation."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyllm.pictures.figure import BLUE, DARK, GREY, ORANGE, SOFT, picture

Rows = Sequence[dict[str, float]]

COMPARISON = "comparison.png"  # in the reports of an evaluation
FEW = 10  # windows or documents, below which a mean is drawn as uncertain


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


def context_use(path: Path, positions: Rows, context: Rows, document: Rows) -> None:
    """Draw the loss by the number of tokens that the model sees, and by position in the document.

    Args:
        positions: the loss at each position of the context.
        context, document: the loss in doubling steps.
    """

    def draw(left: Any, right: Any) -> None:
        x, y = ([row[name] for row in positions] for name in ("position", "loss"))
        left.plot(x, y, linestyle="none", marker=".", markersize=3, color=SOFT)
        for axes, rows, colour in ((left, context, ORANGE), (right, document, BLUE)):
            _doubling(axes, rows, colour)
        left.set(xlabel="tokens that the model sees", ylabel="loss (nats per token)")
        right.set(xlabel="position of the token in its document")
        right.tick_params(labelleft=False)
        if document[-1]["sequences"] < FEW:
            right.set_title(
                f"hollow: fewer than {FEW} documents", loc="right", fontsize=8.5, color=BLUE
            )

    picture(path, (7.2, 3.2), draw, ncols=2, sharey=True)


def _doubling(axes: Any, rows: Rows, colour: str) -> None:
    """Draw a loss in doubling steps; points of few windows or documents are hollow."""
    x = [math.sqrt(row["first"] * row["last"]) for row in rows]
    y = [row["loss"] for row in rows]
    axes.plot(x, y, color=colour, linewidth=1.4)
    fill = ["white" if row["sequences"] < FEW else colour for row in rows]
    axes.scatter(x, y, s=22, c=fill, edgecolors=colour, linewidths=1.2, zorder=3)
    sure = [place for place, row in enumerate(rows) if row["sequences"] >= FEW] or [0]
    lowest = min(sure, key=lambda place: y[place])
    for place, offset, side in ((0, (7, 3), "left"), (lowest, (0, -15), "center")):
        axes.annotate(
            f"{y[place]:.2f}", (x[place], y[place]),
            xytext=offset, textcoords="offset points", ha=side, color=colour, fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6}, zorder=2.5,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.minorticks_off()
    axes.margins(y=0.16)


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
        rows = range(len(classes))
        most = max(rows, key=lambda row: classes[row]["share_of_loss"])
        for name, offset, colour in (("tokens", -0.19, GREY), ("loss", 0.19, ORANGE)):
            shares = [row[f"share_of_{name}"] for row in classes]
            bars = axes.barh([row + offset for row in rows], shares, height=0.36, color=colour)
            labels = [percent(share) for share in shares]
            labels[most] += f" of the {name}"
            axes.bar_label(bars, labels, padding=3, fontsize=8.5)
        column = axes.get_yaxis_transform()
        axes.text(1.0, -0.75, "mean loss (nats)", transform=column, ha="right", fontsize=9)
        for row in rows:
            loss = f"{classes[row]['loss']:.2f}"
            axes.text(1.0, row, loss, transform=column, ha="right", va="center", fontsize=9)
        axes.set_yticks(list(rows), [between(row["least"], row["most"]) for row in classes])
        axes.set(
            xlabel="share of all test tokens and of their total loss",
            ylabel="times that the token is\nin the training split",
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.margins(x=0.5, y=0.04)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()

    picture(path, (6.8, 0.9 + 0.5 * len(classes)), draw)


def percent(share: float) -> str:
    """Format a share; one that is above 0 and would round to it is "<0.1%"."""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def between(least: float, most: float) -> str:
    """Name the numbers from `least` to `most`."""
    return f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
