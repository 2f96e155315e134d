"""The picture of a corpus: the lengths of its documents."""

import bisect
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyllm.pictures.figure import BLUE, ORANGE, picture


def lengths(path: Path, of_length: Mapping[int, int]) -> None:
    """Draw the histogram of document lengths, given the number of documents of each length."""
    values = sorted(of_length)
    counts = [of_length[value] for value in values]
    total = sum(counts)
    middle = bisect.bisect_left(list(itertools.accumulate(counts)), total / 2)
    median = values[middle]
    edges = _edges(values[0], values[-1])

    def draw(axes: Any) -> None:
        axes.hist(values, bins=edges, weights=counts, color=BLUE, edgecolor="white", linewidth=0.4)
        axes.set_xscale("log")
        axes.axvline(median, color=ORANGE, linewidth=1.2, linestyle=(0, (4, 3)))
        right = median > math.sqrt(edges[0] * edges[-1])  # the label goes left of the line
        axes.annotate(
            f"median: {median:,} tokens",
            (median, 0.97), xycoords=("data", "axes fraction"),
            xytext=(-5 if right else 5, 0), textcoords="offset points",
            ha="right" if right else "left", va="top", fontsize=8.5, color=ORANGE,
        )  # fmt: skip
        from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

        plain = FuncFormatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_major_formatter(plain)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="tokens in a document", ylabel="documents", xlim=(edges[0], edges[-1]))

    picture(path, (6.8, 3.2), draw)


def _edges(lowest: int, highest: int) -> list[float]:
    """Edges of bins: four per doubling of the length, each with a whole number in it."""
    edges = [lowest - 0.5]
    while edges[-1] < highest:
        edges.append(max(edges[-1] + 1, math.floor(edges[-1] * 2**0.25) + 0.5))
    return edges
