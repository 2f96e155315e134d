"""Baselines for a model's score: compressors and a bigram model on the same text."""

import lzma
import math
import zlib

import numpy as np
import numpy.typing as npt

from tinyllm.data.token_store import Tokens
from tinyllm.evaluation.breakdown import TOKENS_AT_ONCE, count_tokens

CONCENTRATION = 50.0  # weight of the unigram in a bigram's prediction, in observations


def zlib_bits_per_byte(text: bytes) -> float:
    """Bits per byte of zlib at its best level."""
    return 8 * len(zlib.compress(text, 9)) / len(text)


def lzma_bits_per_byte(text: bytes) -> float:
    """Bits per byte of lzma (xz) at its best level."""
    return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)


def bigram_bits_per_byte(
    train: Tokens, test: Tokens, vocab_size: int, end_of_text: int, n_bytes: int
) -> float:
    """Bits per byte of a model that sees only the previous token.

    It predicts by the pair's frequency in training, smoothed by the token's own frequency
    (Dirichlet prior), which is smoothed by a uniform guess.

    Args:
        train, test: ids (N,).
        n_bytes: size of the test tokens' text.
    """
    single = count_tokens(train, vocab_size)
    unigram = (single + 1) / (len(train) + vocab_size)
    wanted = _pairs(test, end_of_text, vocab_size)
    pairs, index = np.unique(wanted, return_inverse=True)
    seen = _count(pairs, train, vocab_size, end_of_text)[index]
    before, after = wanted // vocab_size, wanted % vocab_size
    probability = (seen + CONCENTRATION * unigram[after]) / (single[before] + CONCENTRATION)
    return float(-np.log(probability).sum() / math.log(2) / n_bytes)


def _count(
    pairs: npt.NDArray[np.int64], tokens: Tokens, vocab_size: int, first: int
) -> npt.NDArray[np.int64]:
    """How often each of some sorted pairs occurs; memory holds a part of the tokens at a time."""
    counts = np.zeros(len(pairs), dtype=np.int64)
    for start in range(0, len(tokens), TOKENS_AT_ONCE):
        some = tokens[start : start + TOKENS_AT_ONCE]
        found = _pairs(some, first, vocab_size)
        place = np.minimum(np.searchsorted(pairs, found), len(pairs) - 1)
        counts += np.bincount(place[pairs[place] == found], minlength=len(pairs))
        first = int(some[-1])
    return counts


def _pairs(tokens: Tokens, first: int, vocab_size: int) -> npt.NDArray[np.int64]:
    """Each token and its predecessor as one number; `first` precedes the first token."""
    ids = np.concatenate([[first], tokens]).astype(np.int64)
    return ids[:-1] * vocab_size + ids[1:]
