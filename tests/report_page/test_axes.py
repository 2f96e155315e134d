"""Ticks are few and round, and points are where the axis says."""

import pytest

from tinyllm.report_page import axes
from tinyllm.report_page.charts import axis, series
from tinyllm.report_page.thinning import sampled, thinned


@pytest.mark.parametrize(
    ("low", "high", "form", "labels"),
    [
        (0, 2400, "integer", ["0", "500", "1,000", "1,500", "2,000"]),
        (0, 3, "integer", ["0", "1", "2", "3"]),
        (2.1, 4.6, "decimal", ["2.5", "3.0", "3.5", "4.0", "4.5"]),
        (0, 0.0042, "decimal", ["0", "0.001", "0.002", "0.003", "0.004"]),
        (0, 2e-6, "decimal", ["0", "5.0e-7", "1.0e-6", "1.5e-6", "2.0e-6"]),
        (0, 1, "percent", ["0%", "20%", "40%", "60%", "80%", "100%"]),
    ],
)
def test_ticks_are_round(low: float, high: float, form: str, labels: list[str]) -> None:
    assert [text for _, text in axes.ticks(axis("", low, high, form))] == labels


@pytest.mark.parametrize("high", [1, 2, 100, 128, 1 << 20])
def test_a_logarithmic_axis_has_powers_of_two(high: float) -> None:
    found = axes.ticks(axis("", 1, high, "integer", "log2"))
    assert 1 <= len(found) <= 9 and found[0][1] == "1"


def test_points_are_where_the_axis_says() -> None:
    x, y = axis("", 0, 10, "integer"), axis("", 0, 4, "decimal")
    line = series("", "line", "blue", [0, 5, 10], [0.0, 1.0, 4.0])
    assert axes.path(line, x, y) == "M0 1000L500 750L1000 0"
    gap = series("", "line", "blue", [0, 5, 6, 10], [0.0, 1.0, None, 4.0])
    assert axes.path(gap, x, y) == "M0 1000L500 750M1000 0"
    band = series("", "band", "grey", [0, 10], low=[0.0, 1.0], high=[2.0, 4.0])
    assert axes.path(band, x, y) == "M0 500L1000 0L1000 750L0 1000Z"
    assert axes.dots(series("", "dots", "blue", [5], [2.0]), x, y) == "M500 500h0"


def test_thinning_keeps_the_mean_the_ends_and_what_is_named() -> None:
    rows = [{"x": float(n), "y": 1.0} for n in range(1000)]
    few = thinned(rows, 100)
    assert len(few) == 100 and few[0]["x"] == 4.5 and {row["y"] for row in few} == {1.0}
    assert thinned(rows[:7], 100) == rows[:7]
    places = sampled(1000, 10, keep=[501])
    assert places[0] == 0 and places[-1] == 999 and 501 in places and len(places) <= 11
