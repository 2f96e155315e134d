"""Near-duplicates by MinHash: which documents share most of their phrases.

A document is the set of its shingles (five words in a row, as folded for its split; a character of
a script that leaves no spaces counts as a word). The share of equal numbers in two signatures
estimates the Jaccard similarity of the two sets (Broder 1997). Documents are compared if all eight
numbers of one of fourteen bands are equal: shingles and bands are those of FineWeb (Penedo et al.
2024). datasketch computes the same a shingle at a time; whole arrays take a hundredth of the time.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BANDS, ROWS = 14, 8
SHINGLE = 5  # words
ALIKE = 0.7  # estimated similarity from which two documents are near-duplicates
_SPACE, _WIDE = 0x20, 0xE0  # from this byte on begins a character of three or four bytes
_BASE = 0x9E3779B97F4A7C15  # odd, hence with an inverse modulo 2**64
_BLOCK = 1 << 16  # bytes hashed at once, with arrays that the processor's cache holds
_AT_ONCE = 1 << 16  # pairs compared at once

Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint16]  # (N, BANDS * ROWS): of each number the upper half, which
# is enough to tell two apart (b-bit minwise hashing, Li and König 2010)


def _mix(values: Hashes) -> Hashes:
    """Spread each number over all 64 bits (SplitMix64's finalizer)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _constants(first: int, count: int) -> Hashes:
    numbers = np.arange(first, first + count, dtype=np.uint64)
    return _mix((numbers + np.uint64(1)) * np.uint64(_BASE))


def _powers(base: int, count: int) -> Hashes:
    """base**0, base**1, ... modulo 2**64."""
    steps = np.full(count, base, dtype=np.uint64)
    steps[0] = 1
    return np.cumprod(steps, dtype=np.uint64)


def signatures(texts: Sequence[bytes]) -> Signatures:
    """The signatures of folded texts (N, BANDS * ROWS); a long one's is of its blocks' phrases."""
    blocks: list[bytes] = []
    owners = []
    for text in texts:
        owners.append(len(blocks))
        blocks += [text[i : i + _BLOCK] for i in range(0, max(len(text), 1), _BLOCK)]
    found, first, size = [], 0, 0
    for end, block in enumerate(blocks, start=1):
        size += len(block)
        if size >= _BLOCK or end == len(blocks):
            found.append(_signatures(blocks[first:end]))
            first, size = end, 0
    return np.minimum.reduceat(np.concatenate(found), owners, axis=0)


def _signatures(texts: Sequence[bytes]) -> Signatures:
    shingles, firsts = _shingles(texts)
    lowest = np.empty((BANDS * ROWS, len(texts)), dtype=np.uint32)
    flips = (_constants(256, len(lowest)) >> np.uint64(32)).astype(np.uint32)
    factors = (_constants(512, len(lowest)) >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
    mixed = np.empty_like(shingles)
    for row, flip, factor in zip(lowest, flips, factors, strict=True):
        np.bitwise_xor(shingles, flip, out=mixed)
        np.multiply(mixed, factor, out=mixed)
        np.minimum.reduceat(mixed, firsts, out=row)
    return np.ascontiguousarray((lowest >> np.uint32(16)).astype(np.uint16).T)


def _shingles(texts: Sequence[bytes]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Hashes of all shingles, text by text, and where those of each text begin (N,).

    A shingle's hash is a difference of two prefix sums, as of Rabin and Karp, but over all texts
    at once. A text of fewer words is one shingle.
    """
    joined = np.frombuffer(b" ".join([b"", *texts, b""]), dtype=np.uint8)
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1
    begin = 1 + np.cumsum(sizes) - sizes
    is_first = np.zeros(len(joined), dtype=bool)
    is_first[1:] = (joined[:-1] == _SPACE) & (joined[1:] != _SPACE) | (joined[1:] >= _WIDE)
    is_first[begin] = True
    words = np.flatnonzero(is_first)
    first_word = np.searchsorted(words, begin)
    n_words = np.diff(np.append(first_word, len(words)))
    counts = np.maximum(n_words - SHINGLE + 1, 1)
    firsts = np.cumsum(counts) - counts
    head = np.arange(counts.sum()) + np.repeat(first_word - firsts, counts)
    tail = head + np.repeat(np.minimum(n_words, SHINGLE), counts)
    ends = np.append(words, len(joined))
    sums = np.zeros(len(joined) + 1, dtype=np.uint64)
    letters = _constants(0, 256)[joined]
    np.cumsum(letters * _powers(_BASE, len(joined)), out=sums[1:])
    inverse = _powers(pow(_BASE, -1, 1 << 64), len(joined))
    spans = (sums[ends[tail]] - sums[ends[head]]) * inverse[ends[head]]
    return (_mix(spans) >> np.uint64(32)).astype(np.uint32), firsts


def groups(found: Signatures) -> npt.NDArray[np.int64]:
    """For each document the first of those that it is a near-duplicate of, directly or not (N,)."""
    group = np.arange(len(found))
    candidates = [np.empty(0, dtype=np.int64)]
    for band in range(BANDS):
        rows = np.ascontiguousarray(found[:, band * ROWS : (band + 1) * ROWS])
        halves = rows.view(np.uint64)  # (N, 2)
        keys = _mix(halves[:, 0]) + halves[:, 1]
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        candidates.append(order[same] * len(found) + order[same + 1])
    a, b = np.divmod(np.unique(np.concatenate(candidates)), len(found))
    alike = _alike(found, a, b)
    a, b = a[alike], b[alike]
    while True:  # the lower number spreads over each pair, until all of a group have the lowest
        lower = np.minimum(group[a], group[b])
        new = group.copy()
        np.minimum.at(new, a, lower)
        np.minimum.at(new, b, lower)
        new = new[new]
        if np.array_equal(new, group):
            return group
        group = new


def _alike(
    found: Signatures, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Of which pairs (P,) of documents the estimated similarity is high (P,)."""
    alike = np.empty(len(a), dtype=bool)
    for first in range(0, len(a), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        alike[some] = (found[a[some]] == found[b[some]]).mean(axis=1) >= ALIKE
    return alike
