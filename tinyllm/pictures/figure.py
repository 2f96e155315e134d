"""Drawing and publishing a picture: one style, and the same bytes every time."""

import os
import sys
from collections.abc import Callable, Iterator
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
BLUE, ORANGE, GREY, PALE = "#2f6db5", "#d9622b", "#c9d3df", "#dce4ee"
SOFT, DARK = "#f0b79c", "#5a6673"


def picture(
    path: Path, size: tuple[float, float], draw: Callable[..., None], **panels: Any
) -> None:
    """Draw and publish a picture; a failure is only printed, because the numbers are published.

    Args:
        size: width and height in inches.
        draw: draws on the axes of each panel.
        panels: what `Figure.subplots` takes; by default there is one panel.
    """
    try:
        with _settings(), publish_file(path) as temporary:
            # Without pyplot: it keeps figures in global state and may open a display.
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(figsize=size, layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots(squeeze=False, **panels)
            draw(*axes.flat)
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
