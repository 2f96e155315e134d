"""Diversity and repetition of texts, against counts by hand."""

import pytest

from tinyllm.evaluation.diversity import distinct, repeated


def test_distinct_counts_different_n_grams_of_all_texts() -> None:
    texts = [[1, 2, 1, 2], [1, 2, 3]]
    assert distinct(texts, 1) == 3 / 7
    assert distinct(texts, 2) == 3 / 5  # 12, 21, 12, 12, 23; none from one text to the next
    assert distinct(texts, 3) == 3 / 3
    assert distinct(texts, 4) == 1
    assert distinct(texts, 5) == 0  # there are none


def test_repetition_counts_n_grams_within_a_text() -> None:
    assert repeated([[1, 2, 3, 4, 1, 2, 3, 4]]) == pytest.approx(1 / 5)
    assert repeated([[7] * 13]) == pytest.approx(9 / 10)
    assert repeated([[1, 2, 3, 4], [1, 2, 3, 4]]) == 0  # not from one text to the next
    assert repeated([[7] * 13, [1, 2, 3, 4], [1, 2]]) == pytest.approx(0.45)
    assert repeated([[1, 2]]) == 0
    assert repeated([[1, 2, 1], [5]], n=1) == pytest.approx(1 / 6)
