"""Pictures: the same bytes every time, whatever was measured."""

import math
from pathlib import Path

import pytest

from tinyllm.pictures import comparison, lengths, loss_curve, smooth

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
        ([3.0, 3.0], [3.0, 3.0, 3.0], 0),  # nothing learned
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


def test_smoothing_does_not_trail_behind() -> None:
    line = [10.0 - i for i in range(10)]
    assert smooth(line, reach=3)[:7] == pytest.approx(line[:7])  # in the middle of each window
    assert smooth([0.0, 0.0, 9.0, 0.0, 0.0], reach=1) == pytest.approx([0, 3, 3, 3, 0])
    assert smooth([1.0], reach=5) == [1.0]
    assert smooth([1.0, 2.0], reach=0) == [1.0, 2.0]
