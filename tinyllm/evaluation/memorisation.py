"""Find text that occurs verbatim in the training split.

The training split is read once, in chunks; memory holds one chunk. The hash of every run of
`SHORTEST` characters of a chunk is looked up among those of the texts. Runs of equal hash are then
compared character by character, so that nothing else counts as found.

A character is a Unicode code point. No match crosses the end of a document.
"""

import codecs
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyllm.data.token_store import Tokens
from tinyllm.data.tokenizer import Tokenizer

SHORTEST = 50  # characters of a run that counts
TITLE_TOKENS = 32
TOKENS_AT_ONCE = 1 << 18
COMPARED_AT_ONCE = 1 << 20  # characters
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
FILTER_BITS = 22
END = 0xDCFF  # ends a document; surrogateescape makes it of the byte 255, which UTF-8 never has
END_OF_SAMPLE = 0x110000  # ends a text to find; no code point

Codes = npt.NDArray[np.uint32]
Keys = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """The longest run of some texts that occurs verbatim in the training split.

    Attributes:
        text: the run; empty if none has `SHORTEST` characters.
        sample: index of the text that contains it.
        document: index of the training document that contains it, in the order of the split.
        title: the first line of that document.
    """

    text: str = ""
    sample: int = -1
    document: int = -1
    title: str = ""


@dataclass(frozen=True)
class Verbatim:
    """What some texts have in common with the training split.

    Attributes:
        characters: size of each text.
        found: the number of each text's characters in runs that occur in the training split.
    """

    characters: list[int]
    found: list[int]
    longest: Match

    @property
    def share(self) -> float:
        """Fraction of all characters that are in such a run."""
        return sum(self.found) / max(1, sum(self.characters))


def find_verbatim(
    groups: Sequence[Sequence[str]], tokens: Tokens, tokenizer: Tokenizer
) -> list[Verbatim]:
    """Search the training split for runs of some groups of texts."""
    searches = [_Search(texts) for texts in groups]
    overlap = max((len(text) for texts in groups for text in texts), default=1)
    powers = _Powers()
    for codes, documents in _chunks(tokens, tokenizer, max(0, overlap - 1)):
        chunk = _Hashed(codes, powers)
        ends = np.flatnonzero(codes == END)
        for search in searches:
            search.read(chunk, documents, ends)
    found = [search.result() for search in searches]
    return [
        replace(each, longest=replace(each.longest, title=title(tokens, tokenizer, document)))
        if (document := each.longest.document) >= 0
        else each
        for each in found
    ]


def title(tokens: Tokens, tokenizer: Tokenizer, document: int) -> str:
    """The first line of a document of a split, given its index; of a long line, the beginning."""
    begin, before = 0, 0  # a place that some documents end before
    while before < document:
        assert begin < len(tokens), f"the split has {before} documents, not {document}"
        ends = np.flatnonzero(tokens[begin : begin + TOKENS_AT_ONCE] == tokenizer.end_of_text)
        missing = document - before
        begin += int(ends[missing - 1]) + 1 if missing <= len(ends) else TOKENS_AT_ONCE
        before += min(missing, len(ends))
    beginning = tokens[begin : begin + TITLE_TOKENS].tolist()
    text = tokenizer.decode(itertools.takewhile(lambda t: t != tokenizer.end_of_text, beginning))
    return text.strip().partition("\n")[0]


def _chunks(tokens: Tokens, tokenizer: Tokenizer, overlap: int) -> Iterator[tuple[Codes, int]]:
    """Yield consecutive parts of a split's text as code points, each document followed by END.

    Each part begins with the last `overlap` characters of the one before it. With each comes the
    index of the document that it begins in.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    kept, documents = np.empty(0, dtype=np.uint32), 0
    for first in range(0, len(tokens), TOKENS_AT_ONCE):
        some = tokens[first : first + TOKENS_AT_ONCE]
        ends = np.flatnonzero(some == tokenizer.end_of_text)
        parts = [part.tolist() for part in np.split(some, ends + 1)]
        content = b"\xff".join(
            tokenizer.decode_bytes(part if last else part[:-1])
            for part, last in zip(parts, [False] * len(ends) + [True], strict=True)
        )
        codes = np.concatenate([kept, _codes(decoder.decode(content))])
        yield codes, documents
        kept = codes[max(0, len(codes) - overlap) :]
        documents += int((codes[: len(codes) - len(kept)] == END).sum())


def _codes(text: str) -> Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


class _Hashed:
    """Characters, and a hash of every run of them, of any length, in two operations.

    The hash of the run c_0 ... c_(n-1) is the sum of c_i * MULTIPLIER^i modulo 2^64: the difference
    of two sums from the start, divided by the power at which the run begins.
    """

    def __init__(self, codes: Codes, powers: "_Powers") -> None:
        self.codes = codes
        powers.extend(len(codes))
        self._inverse = powers.inverse
        self._sums = np.zeros(len(codes) + 1, dtype=np.uint64)
        np.cumsum(codes * powers.powers[: len(codes)], out=self._sums[1:])

    def every(self, length: int) -> Keys:
        """The hash of each run of `length` characters, by its start."""
        count = max(0, len(self.codes) - length + 1)
        sums = self._sums[length : length + count] - self._sums[:count]
        keys: Keys = sums * self._inverse[:count]
        return keys

    def some(self, starts: Indices, length: int) -> Keys:
        """The hash of the runs of `length` characters that begin at `starts`."""
        keys: Keys = (self._sums[starts + length] - self._sums[starts]) * self._inverse[starts]
        return keys


class _Powers:
    """MULTIPLIER^0, MULTIPLIER^1, ... modulo 2^64, and their inverses, as many as are needed."""

    def __init__(self) -> None:
        self.powers = self.inverse = np.ones(1, dtype=np.uint64)

    def extend(self, count: int) -> None:
        """Compute `count` powers, if there are fewer."""
        if count > len(self.powers):
            count = max(count, 2 * len(self.powers))
            self.powers = self._of(MULTIPLIER, count)
            self.inverse = self._of(pow(MULTIPLIER, -1, 1 << 64), count)

    @staticmethod
    def _of(base: int, count: int) -> Keys:
        powers = np.full(count, base, dtype=np.uint64)
        powers[0] = 1
        return np.multiply.accumulate(powers, out=powers)


class _Table(NamedTuple):
    """The different runs of some length, by their hashes in ascending order."""

    keys: Keys
    places: Indices  # where each occurs first

    def find(self, keys: Keys) -> Indices:
        """The index of each of some hashes; -1 if it is not in the table."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)


class _Search:
    """A group of texts, and what was found of them so far."""

    def __init__(self, texts: Sequence[str]) -> None:
        parts = [np.append(_codes(text), np.uint32(END_OF_SAMPLE)) for text in texts]
        self._sizes = [len(text) for text in texts]
        self._begins = np.cumsum([0, *map(len, parts)])
        self._text = _Hashed(np.concatenate([*parts, np.empty(0, dtype=np.uint32)]), _Powers())
        self._longest = Match()
        self._best = SHORTEST - 1  # characters of the longest
        self._runs = self._table(SHORTEST)
        self._found = np.zeros(len(self._runs.keys), dtype=bool)
        self._filter = np.zeros(1 << FILTER_BITS, dtype=bool)
        self._filter[_slots(self._runs.keys)] = True

    def read(self, chunk: _Hashed, documents: int, ends: Indices) -> None:
        """Search a part of the training split, which begins in document number `documents`."""
        keys = chunk.every(SHORTEST)
        starts = np.flatnonzero(self._filter[_slots(keys)])  # quicker than the table for most
        runs = self._runs.find(keys[starts])
        starts, runs = starts[runs >= 0], runs[runs >= 0]
        new = ~self._found[runs]
        same = self._equal(chunk, starts[new], self._runs.places[runs[new]], SHORTEST)
        self._found[runs[new][same]] = True
        longer = self._lengthen(chunk, starts)
        if longer is not None:
            start, place = longer
            self._longest = Match(
                chunk.codes[start : start + self._best].tobytes().decode("utf-32-le"),
                sample=int(np.searchsorted(self._begins, place, side="right")) - 1,
                document=documents + int(np.searchsorted(ends, start)),
            )

    def result(self) -> Verbatim:
        """What was found."""
        places = self._places(SHORTEST)
        found = np.zeros(len(self._text.codes), dtype=bool)  # whether a found run begins here
        found[places] = self._found[self._runs.find(self._text.some(places, SHORTEST))]
        # A character is in one that begins there or at most SHORTEST - 1 characters before.
        so_far = np.concatenate([np.zeros(SHORTEST, dtype=np.int64), np.cumsum(found)])
        inside = so_far[SHORTEST:] > so_far[:-SHORTEST]
        covered = [
            int(inside[begin : begin + size].sum())
            for begin, size in zip(self._begins.tolist(), self._sizes, strict=False)
        ]
        return Verbatim(self._sizes, covered, self._longest)

    def _lengthen(self, chunk: _Hashed, starts: Indices) -> tuple[int, int] | None:
        """Find the longest match that begins at one of `starts`, if it is longer than `_best`.

        Returns its start in the chunk and in the texts, and sets `_best`. The length grows in
        doubling steps while there is a match, and the last step is then halved.
        """
        found, step, too_long = None, 1, max(self._sizes, default=0) + 1
        while self._best + 1 < too_long and len(starts):
            length = min(self._best + step, too_long - 1)
            table = self._table(length)
            inside = starts[starts + length <= len(chunk.codes)]
            runs = table.find(chunk.some(inside, length))
            inside, places = inside[runs >= 0], table.places[runs[runs >= 0]]
            same = self._equal(chunk, inside, places, length)
            if same.any():
                starts, places = inside[same], places[same]
                found = int(starts[0]), int(places[0])
                self._best, step = length, 2 * step
            else:
                too_long = length
                step = max(1, (too_long - self._best) // 2)
        return found

    def _places(self, length: int) -> Indices:
        """Where the texts' runs of `length` characters begin."""
        codes = self._text.codes
        ends = np.concatenate([[0], np.cumsum(codes == END_OF_SAMPLE)])
        count = max(0, len(codes) - length + 1)
        return np.flatnonzero(ends[length : length + count] == ends[:count])

    def _table(self, length: int) -> _Table:
        places = self._places(length)
        keys, first = np.unique(self._text.some(places, length), return_index=True)
        return _Table(keys, places[first])

    def _equal(
        self, chunk: _Hashed, starts: Indices, places: Indices, length: int
    ) -> npt.NDArray[np.bool_]:
        """Whether the runs at some starts in the chunk equal those at some places in the texts."""
        same = np.empty(len(starts), dtype=bool)
        rows, within = max(1, COMPARED_AT_ONCE // length), np.arange(length)
        for first in range(0, len(starts), rows):
            here = slice(first, first + rows)
            theirs = chunk.codes[starts[here, None] + within]
            same[here] = (theirs == self._text.codes[places[here, None] + within]).all(axis=1)
        return same


def _slots(keys: Keys) -> Indices:
    """The place of each hash in the filter: its first bits."""
    return (keys >> np.uint64(64 - FILTER_BITS)).astype(np.int64)
