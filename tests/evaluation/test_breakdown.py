"""The loss by position and by frequency, against loops over single tokens."""

from collections import defaultdict

import numpy as np
import pytest

from tests.helpers import random_model, tiny_config
from tinyllm.evaluation import breakdown
from tinyllm.evaluation.breakdown import (
    by_doubling,
    by_frequency,
    by_position,
    count_tokens,
    positions_in_context,
    positions_in_document,
)
from tinyllm.evaluation.scores import make_windows, predict
from tinyllm.models.config import IGNORE

END = 9
DOCUMENTS = [[1, 2, 3, END], [4, END], [END], [1, 1, 2, 5, 6, 7, END]]
TOKENS = np.array([token for document in DOCUMENTS for token in document], dtype=np.uint16)
LOSSES = np.random.default_rng(1).random(len(TOKENS)).astype(np.float32)


def test_a_position_in_a_document_counts_from_its_first_token() -> None:
    expected = [place for document in DOCUMENTS for place in range(1, len(document) + 1)]
    assert positions_in_document(TOKENS, END).tolist() == expected


@pytest.mark.parametrize("limit", [None, 40])
def test_a_position_in_the_context_is_the_number_of_tokens_that_the_model_sees(
    limit: int | None,
) -> None:
    tokens = np.arange(107, dtype=np.uint16)
    windows = make_windows(tokens, np.ones(200, dtype=np.int64), 150, 8, limit=limit)
    seen = [place + 1 for row in windows.targets for place in range(8) if row[place] != IGNORE]
    assert positions_in_context(len(seen), 8).tolist() == seen


def test_the_mean_loss_at_each_position_is_that_of_its_tokens() -> None:
    positions = positions_in_document(TOKENS, END)
    expected = defaultdict(list)
    for position, loss in zip(positions.tolist(), LOSSES.tolist(), strict=True):
        expected[position].append(loss)
    rows = by_position(positions, LOSSES)
    assert [(row["position"], row["tokens"]) for row in rows] == [
        (1, 4), (2, 3), (3, 2), (4, 2), (5, 1), (6, 1), (7, 1)
    ]  # fmt: skip
    for row in rows:
        assert row["loss"] == pytest.approx(np.mean(expected[row["position"]]))
    bins = by_doubling(rows)
    assert [(row["first"], row["last"], row["sequences"], row["tokens"]) for row in bins] == [
        (1, 1, 4, 4), (2, 2, 3, 3), (3, 4, 2, 4), (5, 7, 1, 3)
    ]  # fmt: skip
    assert bins[2]["loss"] == pytest.approx(np.mean(expected[3] + expected[4]))
    total = sum(row["tokens"] * row["loss"] for row in bins)
    assert total == pytest.approx(LOSSES.sum(dtype=np.float64))


def test_each_position_of_the_context_has_the_loss_of_its_own_tokens() -> None:
    """The text repeats with the windows, so that each position has its own token."""
    model = random_model(tiny_config(context_length=4))
    tokens = np.tile(np.array([3, 5, 7, 11], dtype=np.uint16), 50)
    found = predict(model, make_windows(tokens, np.ones(61, dtype=np.int64), 60, 4))
    rows = by_position(positions_in_context(200, 4), found.losses.numpy())
    losses = found.losses.view(-1, 4)
    assert len({round(loss, 3) for loss in losses[-1].tolist()}) == 4
    for place, row in enumerate(rows):
        assert row == {
            "position": place + 1,
            "tokens": 50,
            "loss": pytest.approx(losses[:, place].double().mean().item()),
        }


def test_classes_of_frequency_are_powers_of_ten() -> None:
    counts = np.array([0, 1, 9, 10, 99, 100, 0, 5])
    targets = np.array([0, 0, 1, 2, 2, 3, 4, 5, 5, 5], dtype=np.uint16)
    losses = np.arange(1, 11, dtype=np.float32)
    rows = list(by_frequency(counts, targets, losses))
    assert [(row["least"], row["most"]) for row in rows] == [(0, 0), (1, 9), (10, 99), (100, 999)]
    assert [row["ids"] for row in rows] == [2, 3, 2, 1]
    assert [row["tokens"] for row in rows] == [2, 3, 2, 3]
    assert [row["loss"] for row in rows] == [1.5, 4, 6.5, 9]
    assert [row["share_of_tokens"] for row in rows] == [0.2, 0.3, 0.2, 0.3]
    assert [row["share_of_loss"] for row in rows] == pytest.approx(
        [3 / 55, 12 / 55, 13 / 55, 27 / 55]
    )


def test_a_class_without_test_tokens_has_no_row() -> None:
    rows = list(by_frequency(np.array([0, 2000]), np.array([1, 1]), np.ones(2, dtype=np.float32)))
    assert [(row["least"], row["most"], row["tokens"]) for row in rows] == [(1000, 9999, 2)]


def test_tokens_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakdown, "TOKENS_AT_ONCE", 3)
    assert count_tokens(TOKENS, 12).tolist() == [0, 3, 2, 1, 1, 1, 1, 1, 0, 4, 0, 0]
