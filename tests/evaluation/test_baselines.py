"""Bits per byte of simpler predictors on the same text."""

import lzma
import math
import zlib

import numpy as np
import pytest

from tests.helpers import markov_tokens
from tinyllm.evaluation import baselines
from tinyllm.evaluation.baselines import (
    bigram_bits_per_byte,
    lzma_bits_per_byte,
    zlib_bits_per_byte,
)

END = 5
TRAIN = np.array([0, 1, 2, 0, 1, END, 1, 1, 0, 3, END], dtype=np.uint16)


def bits(train: np.ndarray, *test: int, vocab_size: int = 6) -> float:
    """Bits of a bigram model of some tokens for others, which follow <|endoftext|>."""
    return bigram_bits_per_byte(train, np.array(test, dtype=np.uint16), vocab_size, END, 1)


def test_compressors_are_counted_in_bits_a_byte() -> None:
    text = b"to be or not to be, that is the question. " * 50
    assert zlib_bits_per_byte(text) == 8 * len(zlib.compress(text, 9)) / len(text)
    assert len(lzma.decompress(lzma.compress(text))) == len(text)
    for measure in (zlib_bits_per_byte, lzma_bits_per_byte):
        assert 0 < measure(text) < 1
        noise = np.random.default_rng(1).bytes(20_000)
        assert 8 <= measure(noise) < 8.1


@pytest.mark.parametrize("before", [(), (0,), (1,), (2,), (4,), (0, END)])
def test_a_bigrams_probabilities_sum_to_one(before: tuple[int, ...]) -> None:
    so_far = bits(TRAIN, *before) if before else 0.0
    total = sum(2 ** -(bits(TRAIN, *before, after) - so_far) for after in range(6))
    assert total == pytest.approx(1, abs=1e-9)


def test_a_bigrams_score_matches_a_hand_calculation() -> None:
    unigram = (4 + 1) / (11 + 6)  # of token 1, seen 4 times among 11, 6 in the vocabulary
    pair = (2 + 50 * unigram) / (3 + 50)  # 1 follows 0 in 2 of 3 cases
    assert bits(TRAIN, 0, 1) - bits(TRAIN, 0) == pytest.approx(-math.log2(pair))
    unseen = 50 * (1 / 17) / (3 + 50)  # 4 was never seen
    assert bits(TRAIN, 0, 4) - bits(TRAIN, 0) == pytest.approx(-math.log2(unseen))


def test_a_bigram_learns_frequent_pairs() -> None:
    train, test = markov_tokens(20_000, seed=1), markov_tokens(2_000, seed=2)
    shuffled = np.random.default_rng(1).permutation(test)
    of_test = bigram_bits_per_byte(train, test, 61, 60, 2_000)
    # A jump, one time in ten, costs log2(61) bits more.
    entropy = 0.1 * math.log2(610) + 0.9 * math.log2(1 / 0.9)
    assert entropy * 0.9 < of_test < entropy + 0.5
    assert bigram_bits_per_byte(train, shuffled, 61, 60, 2_000) > 2 * of_test


def test_pairs_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = markov_tokens(1_000, seed=1), markov_tokens(200, seed=2)
    whole = bigram_bits_per_byte(train, test, 61, 60, 200)
    for at_once in (1, 7, 999):
        monkeypatch.setattr(baselines, "TOKENS_AT_ONCE", at_once)
        assert bigram_bits_per_byte(train, test, 61, 60, 200) == whole


def test_bits_are_divided_by_bytes() -> None:
    test = np.array([0, 1, 2], dtype=np.uint16)
    assert bigram_bits_per_byte(TRAIN, test, 6, END, 12) == pytest.approx(bits(TRAIN, 0, 1, 2) / 12)


def test_large_vocabularies_do_not_overflow() -> None:
    train = np.array([199_999, 199_998, 199_999, 199_998, 0], dtype=np.uint32)
    test = np.array([199_999, 199_998], dtype=np.uint32)
    other = np.array([199_999, 199_997], dtype=np.uint32)
    seen = bigram_bits_per_byte(train, test, 200_000, 0, 1)
    assert seen < bigram_bits_per_byte(train, other, 200_000, 0, 1)
