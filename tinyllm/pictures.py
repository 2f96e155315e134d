"""Pictures for reports: the same bytes every time."""

import bisect
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tinyllm.common.files import publish_file

_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 200,
}
_BLUE, _ORANGE, _GREY, _PALE = "#2f6db5", "#d9622b", "#c9d3df", "#dce4ee"
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
        axes.plot(x, batches, color=_PALE, linewidth=0.7)
        axes.plot(x, trend, color=_BLUE, linewidth=1.4, label="training batches, smoothed")
        for split, label, style in (
            ("train", "training set", {"marker": "s", "color": _BLUE, "markersize": 4.5}),
            ("val", "validation set", {"marker": "o", "color": _ORANGE, "markersize": 5}),
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

    _picture(path, (6.8, 4.2), draw)


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
    axes.axhline(loss, color=_ORANGE, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_title(
        f"best: {loss:.3f} nats per token, {best['val_bits_per_byte']:.3f} bits per byte, "
        f"step {best['step']:.0f}",
        loc="left", fontsize=9, color=_ORANGE,
    )  # fmt: skip


def _set_limits(axes: Any, trend: list[float], validation: list[float]) -> None:
    """Set the y-axis to show the end in detail; the first steps may lie above the plot."""
    validation = [loss for loss in validation if math.isfinite(loss)]
    lowest = min([*trend, *validation])
    top = max([*trend[int(_START * len(trend)) :], validation[-1]])
    room = max(top - lowest, 1e-3)
    axes.set_ylim(lowest - 0.12 * room, top + 0.03 * room)


def comparison(path: Path, bits_per_byte: dict[str, float]) -> None:
    """Draw bits per byte of several ways to predict or compress the same text, as bars."""

    def draw(axes: Any) -> None:
        names = list(bits_per_byte)
        colours = [_GREY] * (len(names) - 1) + [_ORANGE]
        bars = axes.barh(names, list(bits_per_byte.values()), color=colours, height=0.62)
        axes.bar_label(bars, fmt="%.3f", padding=4, fontsize=9)
        axes.set(xlabel="bits per byte of the test text (lower is better)")
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()

    _picture(path, (6.4, 2.4), draw)


def lengths(path: Path, of_length: Mapping[int, int]) -> None:
    """Draw the histogram of document lengths, given the number of documents of each length."""
    values = sorted(of_length)
    counts = [of_length[value] for value in values]
    total = sum(counts)
    middle = bisect.bisect_left(list(itertools.accumulate(counts)), total / 2)
    median = values[middle]
    edges = _edges(values[0], values[-1])

    def draw(axes: Any) -> None:
        axes.hist(values, bins=edges, weights=counts, color=_BLUE, edgecolor="white", linewidth=0.4)
        axes.set_xscale("log")
        axes.axvline(median, color=_ORANGE, linewidth=1.2, linestyle=(0, (4, 3)))
        right = median > math.sqrt(edges[0] * edges[-1])  # the label goes left of the line
        axes.annotate(
            f"median: {median:,} tokens",
            (median, 0.97), xycoords=("data", "axes fraction"),
            xytext=(-5 if right else 5, 0), textcoords="offset points",
            ha="right" if right else "left", va="top", fontsize=8.5, color=_ORANGE,
        )  # fmt: skip
        from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

        plain = FuncFormatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_major_formatter(plain)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="tokens in a document", ylabel="documents", xlim=(edges[0], edges[-1]))

    _picture(path, (6.8, 3.2), draw)


def _edges(lowest: int, highest: int) -> list[float]:
    """Edges of bins: four per doubling of the length, each with a whole number in it."""
    edges = [lowest - 0.5]
    while edges[-1] < highest:
        edges.append(max(edges[-1] + 1, math.floor(edges[-1] * 2**0.25) + 0.5))
    return edges


def _picture(path: Path, size: tuple[float, float], draw: Callable[[Any], None]) -> None:
    """Draw and publish a picture; a failure is only printed, because the numbers are published."""
    try:
        with _settings(), publish_file(path) as temporary:
            # Without pyplot: it keeps figures in global state and may open a display.
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(figsize=size, layout="constrained")
            FigureCanvasAgg(figure)
            draw(figure.add_subplot())
            figure.savefig(temporary, format="png", metadata={"Software": None})
    except Exception as error:  # of any kind, from matplotlib or its installation
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"can't draw {path.name}: {reason}", file=sys.stderr)


@contextmanager
def _settings() -> Iterator[None]:
    """Apply our settings over matplotlib's defaults instead of the user's settings."""
    if "matplotlib" not in sys.modules:
        _import_matplotlib()
    from matplotlib import rc_context, rcParamsDefault

    settings: Any = {name: v for name, v in rcParamsDefault.items() if name != "backend"}
    with rc_context(settings | _STYLE):
        yield


def _import_matplotlib() -> None:
    """Import matplotlib without the user's settings, which may make the import fail.

    They do if they name a backend or a locale that is not installed, as Jupyter does for every
    process it starts. matplotlib first reads `matplotlibrc` in the current folder, so it is
    imported in its data folder, which has the default one.
    """
    os.environ["MPLBACKEND"] = "agg"
    spec = find_spec("matplotlib")
    data = Path((spec and spec.origin) or "").parent / "mpl-data"
    with chdir(data) if data.is_dir() else nullcontext():
        import matplotlib  # noqa: F401
