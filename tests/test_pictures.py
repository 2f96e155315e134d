"""Pictures: the same bytes every time, for any measurements."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from tinyllm.pictures import loss
from tinyllm.pictures.evaluation import (
    between,
    comparison,
    context_use,
    frequency,
    percent,
    reliability,
)
from tinyllm.pictures.lengths import lengths
from tinyllm.pictures.loss import loss_curve, smooth

PNG = b"\x89PNG\r\n\x1a\n"


def evaluation(step: int, loss: float) -> dict[str, float]:
    return {
        "step": step, "train_loss": loss, "val_loss": loss, "val_bits_per_byte": loss / 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("batches", "validation", "best"),
    [
        ([3.0 - i / 100 for i in range(200)], [3.0, 2.0, 1.0], 2),
        ([3.0], [3.0, 2.9], 1),
        ([3.0, 3.0], [3.0, 3.0, 3.0], 0),  # no improvement
        ([3.0, 2.0], [3.0, 2.0, math.inf], 1),
        ([3.0, 2.0], [0.0, 0.0, 0.0], 0),
    ],
)
def test_any_history_can_be_drawn(
    tmp_path: Path, batches: list[float], validation: list[float], best: int
) -> None:
    steps = [{"step": float(i), "loss": loss} for i, loss in enumerate(batches)]
    evaluations = [evaluation(i, loss) for i, loss in enumerate(validation)]
    for name in ("a.png", "b.png"):
        loss_curve(tmp_path / name, steps, evaluations, best)
    picture = (tmp_path / "a.png").read_bytes()
    assert picture.startswith(PNG)
    assert picture == (tmp_path / "b.png").read_bytes()


def test_a_comparison_can_be_drawn(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        comparison(tmp_path / name, {"zlib": 2.3, "tinyllm": 1.3})
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "of_length",
    [{1: 1}, {2: 5}, {1: 3, 2: 1}, {7: 1, 8: 1, 9: 1}, {3: 1, 4_000_000_000: 1}, {90: 9, 1000: 1}],
)
def test_any_lengths_can_be_drawn(tmp_path: Path, of_length: dict[int, int]) -> None:
    for name in ("a.png", "b.png"):
        lengths(tmp_path / name, of_length)
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def doubling(count: int, loss: float = 3.0) -> list[dict[str, float]]:
    """Rows of a loss in doubling steps, the last of which have few documents."""
    edges = [(1, 1), (2, 2), *((2**n + 1, 2 ** (n + 1)) for n in range(1, count))][:count]
    return [
        {"first": first, "last": last, "sequences": 400 / last, "loss": loss + 1 / last}
        for first, last in edges
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_any_loss_by_position_can_be_drawn(tmp_path: Path, count: int) -> None:
    positions = [{"position": float(n), "loss": 3 + 1 / n} for n in range(1, 2 * count)]
    for name in ("a.png", "b.png"):
        context_use(tmp_path / name, positions, doubling(count), doubling(count + 3, loss=0.0))
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 15])
def test_any_reliability_can_be_drawn(tmp_path: Path, count: int) -> None:
    bins = [
        {
            "low": n / 15, "high": (n + 1) / 15, "tokens": 10 * n + 1,
            "confidence": n / 15, "accuracy": 1 - n / 15,
        }
        for n in range(count)
    ]  # fmt: skip
    for name in ("a.png", "b.png"):
        reliability(tmp_path / name, bins, 0.012)
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("shares", [[1.0], [0.0, 1.0], [1e-5, 0.3, 0.7 - 1e-5]])
def test_any_frequencies_can_be_drawn(tmp_path: Path, shares: list[float]) -> None:
    classes = [
        {"least": 10.0**n, "most": 10.0 ** (n + 1) - 1, "loss": n, "share_of_tokens": share,
         "share_of_loss": share}
        for n, share in enumerate(shares)
    ]  # fmt: skip
    for name in ("a.png", "b.png"):
        frequency(tmp_path / name, classes)
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_ranges_and_shares_are_named_as_in_a_text() -> None:
    assert [between(0, 0), between(1000, 9999)] == ["0", "1,000 to 9,999"]
    assert [percent(s) for s in (0, 1e-6, 0.0005, 0.123)] == ["0.0%", "<0.1%", "0.1%", "12.3%"]


def test_smoothing_does_not_lag() -> None:
    line = [10.0 - i for i in range(10)]
    assert smooth(line, reach=3)[:7] == pytest.approx(line[:7])  # in the middle of each window
    assert smooth([0.0, 0.0, 9.0, 0.0, 0.0], reach=1) == pytest.approx([0, 3, 3, 3, 0])
    assert smooth([1.0], reach=5) == [1.0]
    assert smooth([1.0, 2.0], reach=0) == [1.0, 2.0]


DRAW = """
import sys
from pathlib import Path
from typing import Any
from tinyllm.pictures.evaluation import comparison
from tinyllm.pictures.lengths import lengths
from tinyllm.pictures.loss import loss_curve

folder = Path(sys.argv[1])
row = {"train_loss": 2.0, "val_loss": 1.5, "val_bits_per_byte": 0.7}
loss_curve(folder / "loss.png", [{"step": 0, "loss": 3.0}], [{"step": 0, **row}], 0)
lengths(folder / "lengths.png", {1: 3, 2000: 1})
comparison(folder / "comparison.png", {"zlib": 2.3, "tinyllm": 1.3})
print("done")
"""
HOSTILE = """
backend: TkAgg
font.family: serif
font.serif: Comic Sans MS
font.size: 30
figure.dpi: 33
savefig.dpi: 44
savefig.facecolor: black
savefig.bbox: tight
text.usetex: True
axes.formatter.use_locale: True
axes.prop_cycle: cycler("color", ["000000"])
lines.linewidth: 9
no.such.setting: 1
figure.figsize: not a size
"""


def drawn(folder: Path, script: str = DRAW, **environment: str) -> tuple[dict[str, bytes], str]:
    """The pictures and output of a separate process whose current folder is elsewhere."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "done\n"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}, done.stderr


def test_the_users_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    usual, _ = drawn(tmp_path / "one" / "pictures")
    home = tmp_path / "two" / "config"
    (home / "stylelib").mkdir(parents=True)
    (home / "stylelib" / "classic.mplstyle").write_bytes(b"font.size: 40\n\xff")
    (home / "matplotlibrc").write_bytes(b"\xff\xfe")  # invalid UTF-8
    (tmp_path / "two" / "matplotlibrc").write_text(HOSTILE)
    environment = {
        "MPLBACKEND": "module://matplotlib_inline.no_such_backend",
        "MATPLOTLIBRC": str(tmp_path / "two"),
        "MPLCONFIGDIR": str(home),
        "LC_ALL": "de_DE.UTF-8",
    }
    hostile, _ = drawn(tmp_path / "two" / "pictures", **environment)
    assert len(usual) == 3 and hostile == usual


def test_a_picture_that_cannot_be_drawn_is_reported(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "matplotlib"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libfreetype is not here')")
    path = os.pathsep.join((str(ROOT), str(broken.parent)))
    files, printed = drawn(tmp_path / "pictures", PYTHONPATH=path)
    assert files == {}
    assert printed.splitlines() == [
        f"can't draw {name}: libfreetype is not here"
        for name in ("loss.png", "lengths.png", "comparison.png")
    ]


def test_no_curve_crosses_the_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a loss that falls, rises, or falls late."""
    captions: list[Any] = []

    def remember(axes: Any, best: dict[str, float]) -> None:
        mark(axes, best)
        captions.extend([axes, *axes.texts, axes.title, axes._left_title])

    mark = loss._mark_best
    monkeypatch.setattr(loss, "_mark_best", remember)
    for losses in ([3.0 - i / 40 for i in range(100)], [1.0 + i / 40 for i in range(100)]):
        steps = [{"step": float(i), "loss": loss} for i, loss in enumerate(losses)]
        loss_curve(tmp_path / "a.png", steps, [evaluation(0, 3.0), evaluation(99, 0.6)], 99)
        axes, *texts = captions
        (caption,) = [text for text in texts if "best: " in text.get_text()]
        # The caption is above the axes, which clip every curve.
        assert caption.get_window_extent().y0 > axes.get_window_extent().y1
        captions.clear()
