"""Find near-duplicates with MinHash: documents that share most of their phrases.

A document is the set of its shingles: five consecutive words of the folded text; in scripts without
spaces, a character counts as a word. The share of equal numbers in two signatures estimates the
Jaccard similarity of two sets (Broder 1997). Documents are compared if all eight numbers of one of
fourteen bands are equal; shingles and bands are those of FineWeb (Penedo et al. 2024). datasketch
computes the same one shingle at a time; whole arrays take a hundredth of the time.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BANDS, ROWS = 14, 8
SHINGLE = 5  # words
ALIKE = 0.7  # lowest estimated similarity of near-duplicates
_SPACE, _WIDE = 0x20, 0xE0  # lowest first byte of a character of three or four bytes
_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2**64
_BLOCK = 1 << 16  # bytes hashed at a time; the arrays fit in the processor's cache
_AT_ONCE = 1 << 16  # pairs compared at a time
NEXT = 32  # following documents of the same band that each is compared with
PIVOTS = 64  # documents that are compared with all of the same band, if it is larger

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]  # of documents, or of positions
Groups = npt.NDArray[np.int64]  # a group is the lowest number of its documents
Signatures = npt.NDArray[np.uint16]  # (N, BANDS * ROWS): the upper half of each number, enough
# to distinguish two numbers (b-bit minwise hashing, Li and König 2010)


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
    """Return signatures of folded texts (N, BANDS * ROWS); a long text is hashed in blocks."""
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
    """Return the hashes of all shingles, text by text, and where each text's begin (N,).

    A shingle's hash is a difference of two prefix sums, as in Rabin-Karp, but over all texts at
    once. A text with fewer words is one shingle.
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


def groups(found: Signatures) -> Groups:
    """Return, for each document, the first document of its group of near-duplicates (N,).

    Two similar documents that share a band are in one group if at most NEXT + 1 documents share
    that band. Of larger bands, typical for boilerplate, each document is compared with the NEXT
    that follow it, then up to PIVOTS documents with all; two similar documents may stay apart only
    if these comparisons miss them. Memory is a few numbers per document; time is O(N log N).
    """
    group = np.arange(len(found))
    for band in range(BANDS):
        rows = np.ascontiguousarray(found[:, band * ROWS : (band + 1) * ROWS])
        halves = rows.view(np.uint64)  # (N, 2)
        keys = _mix(halves[:, 0]) + halves[:, 1]
        order = np.argsort(keys, kind="stable")
        group = _join_following(found, group, order, keys[order])
        group = _join_large(found, group, order, keys[order])
    return group


def _join_following(found: Signatures, group: Groups, order: Numbers, keys: Hashes) -> Groups:
    """Join similar documents with the same key that are at most NEXT positions apart.

    Args:
        order, keys: The documents (N,) sorted by their keys, and the sorted keys.
    """
    places = np.arange(len(order))
    for distance in range(1, NEXT + 1):
        places = places[: np.searchsorted(places, len(order) - distance)]
        places = places[keys[places] == keys[places + distance]]
        if not len(places):
            break
        a, b = order[places], order[places + distance]
        apart = group[a] != group[b]
        a, b = a[apart], b[apart]
        alike = _alike(found, a, b)
        group = _join(group, group[a[alike]], group[b[alike]])
    return group


def _join_large(found: Signatures, group: Groups, order: Numbers, keys: Hashes) -> Groups:
    """Join further similar documents of keys that more than NEXT + 1 documents have."""
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    ends = np.append(firsts[1:], len(keys))
    labels = group[order]
    mixed = np.minimum.reduceat(labels, firsts) != np.maximum.reduceat(labels, firsts)
    before, after = [group[:0]], [group[:0]]
    for bucket in np.flatnonzero(mixed & (ends - firsts > NEXT + 1)).tolist():
        some = slice(firsts[bucket], ends[bucket])
        joined = _join_by_pivots(found, order[some], labels[some])
        moved = joined != labels[some]
        before.append(labels[some][moved])
        after.append(joined[moved])
    return _join(group, np.concatenate(before), np.concatenate(after))


def _join_by_pivots(found: Signatures, members: Numbers, labels: Groups) -> Groups:
    """Compare up to PIVOTS members with all other groups, members of the smallest groups first.

    Once all other members are in one group, any two members of different groups were compared.

    Args:
        labels: The groups of the members (M,).

    Returns:
        Their groups afterwards (M,).
    """
    labels = labels.copy()
    rest = np.arange(len(members))
    for _ in range(PIVOTS):
        _, which, sizes = np.unique(labels[rest], return_inverse=True, return_counts=True)
        if len(sizes) == 1:
            break
        smallest = np.argmin(sizes[which])
        pivot, rest = rest[smallest], np.delete(rest, smallest)
        others = np.flatnonzero(labels != labels[pivot])
        alike = _alike(found, np.full(len(others), members[pivot]), members[others])
        labels[np.isin(labels, labels[others[alike]])] = labels[pivot]
    return labels


def _join(group: Groups, a: Groups, b: Groups) -> Groups:
    """Return the groups (N,) after joining the two groups of each pair (P,)."""
    while True:  # each pair takes its lower number, until a whole group has its lowest
        lower = np.minimum(group[a], group[b])
        new = group.copy()
        np.minimum.at(new, a, lower)
        np.minimum.at(new, b, lower)
        new = new[new]
        if np.array_equal(new, group):
            return group
        group = new


def _alike(found: Signatures, a: Numbers, b: Numbers) -> npt.NDArray[np.bool_]:
    """Return which pairs (P,) of documents have a high estimated similarity (P,)."""
    alike = np.empty(len(a), dtype=bool)
    for first in range(0, len(a), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        alike[some] = (found[a[some]] == found[b[some]]).mean(axis=1) >= ALIKE
    return alike
