"""Pictures for reports: the same bytes every time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyllm.files import publish_file

_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 160,
}
_BLUE, _ORANGE, _GREY = "#2f6db5", "#e0742b", "#c9d3df"


def loss_curve(
    path: Path,
    steps: list[dict[str, float]],
    evaluations: list[dict[str, float]],
    best_step: int,
) -> None:
    """Draw training and validation loss over the steps, the best evaluation marked."""

    def draw(axes: Any) -> None:
        axes.plot(
            [row["step"] for row in steps],
            [row["loss"] for row in steps],
            color=_GREY, linewidth=0.8, label="training batch",
        )  # fmt: skip
        x = [row["step"] for row in evaluations]
        for split, label, colour in (
            ("train", "training set", _BLUE),
            ("val", "validation set", _ORANGE),
        ):
            y = [row[f"{split}_loss"] for row in evaluations]
            axes.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=3.5, label=label)
        best = next(row for row in evaluations if row["step"] == best_step)
        axes.annotate(
            f"{best['val_loss']:.3f}\n{best['val_bits_per_byte']:.3f} bits/byte",
            (best_step, best["val_loss"]),
            xytext=(-6, 22), textcoords="offset points", ha="right", fontsize=9, color=_ORANGE,
            arrowprops={"arrowstyle": "-", "color": _ORANGE, "linewidth": 0.8},
        )  # fmt: skip
        axes.set(xlabel="step", ylabel="loss (nats per token)")
        axes.legend(loc="upper right")

    _picture(path, (6.4, 4.0), draw)


def comparison(path: Path, bits_per_byte: dict[str, float]) -> None:
    """Draw bits per byte of several ways to predict or compress the same text, as bars."""

    def draw(axes: Any) -> None:
        names = list(bits_per_byte)
        colours = [_GREY] * (len(names) - 1) + [_ORANGE]
        bars = axes.barh(names, list(bits_per_byte.values()), color=colours, height=0.62)
        axes.bar_label(bars, fmt="%.3f", padding=4, fontsize=9)
        axes.set(xlabel="bits per byte of the test text (fewer is better)")
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()

    _picture(path, (6.4, 2.4), draw)


def _picture(path: Path, size: tuple[float, float], draw: Callable[[Any], None]) -> None:
    # Without pyplot: it keeps figures in global state and may open a display.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE), publish_file(path) as temporary:
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        figure.savefig(temporary, format="png", metadata={"Software": None})
