"""Read a corpus for the first time: find duplicates, and assign each document to a split.

The sketches of the documents are in files and sorted in parts, so that memory does not grow with
the corpus.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyllm.data.readers.documents import Piece
from tinyllm.data.split_rule import SPLITS, TRAIN, split_codes
from tinyllm.data.tokenize import near_duplicates
from tinyllm.data.tokenize.batches import Corpus, cut_safely
from tinyllm.data.tokenize.sketches import (
    AT_ONCE,
    SIGNATURES,
    count_sketches,
    read,
    read_one,
    write_sketches,
)
from tinyllm.data.tokenize.workers import Workers

if TYPE_CHECKING:  # without pydantic, a worker process starts in two thirds of the time
    from tinyllm.settings.split import Split

DROPPED = 255  # the code of an exact duplicate; other codes are indices into SPLITS
CODES = "codes"
HASH = np.dtype([("content", "<u8"), ("number", "<i8")])
_SPACE = re.compile(r"\s")
PARTS = 128  # most files at once: macOS allows a process 256


class NearDuplicates(NamedTuple):
    """Numbers of groups, of documents in them, and of documents moved to their first's split."""

    groups: int
    documents: int
    moved: int


@dataclass(frozen=True)
class Survey:
    """What a corpus contains.

    Attributes:
        codes: The split of each document (N,) as an index into SPLITS, or DROPPED.
        bytes: Size of each split in UTF-8; approximate for the parts of a single document.
        read: Size of all documents in bytes.
        duplicates: Number of documents skipped as exact duplicates.
        near: Numbers of near-duplicates; None: not searched.
        cuts: Of a single document: the characters at which validation and test part begin.
    """

    codes: npt.NDArray[np.uint8]
    bytes: dict[str, int]
    read: int
    duplicates: int
    near: NearDuplicates | None
    cuts: tuple[int, int] | None

    @property
    def documents(self) -> int:
        """Return the number of documents that are kept."""
        return len(SPLITS) if self.cuts else len(self.codes) - self.duplicates


def survey(corpus: Corpus, settings: "Split", folder: Path, workers: Workers) -> Survey:
    """Read a corpus once.

    Args:
        folder: Folder for files that are needed as long as the result is.

    Raises:
        ValueError: The corpus is empty, or a split has no documents.
    """
    size = write_sketches(corpus, settings.near_duplicates, folder, workers)
    count = count_sketches(folder)
    if not count:
        raise ValueError("the corpus is empty: it contains no document")
    # Write the file before mapping it: on a full disk, writing to a sparse map kills the process.
    with (folder / CODES).open("wb") as file:
        for _, sketches in read(folder):
            file.write(split_codes(sketches["folded"], settings).data)
    codes = np.memmap(folder / CODES, dtype=np.uint8, mode="r+")
    duplicates = _drop_duplicates(folder, codes)
    kept = count - duplicates
    found = cuts = None
    by_content = set(np.unique(codes).tolist())
    if kept == 1:
        cuts, sizes = _cut_by_position(corpus, folder, codes, settings)
    else:
        if size <= settings.near_duplicates:
            found = _join_near_duplicates(folder, codes)
        sizes = _sizes(folder, codes)
    for name in SPLITS:
        if not sizes[name]:
            followed = found if SPLITS.index(name) in by_content else None
            contents = _contents(folder, codes)
            raise ValueError(_too_few(name, kept, contents, duplicates, followed))
    return Survey(codes, sizes, size, duplicates, found, cuts)


def _contents(folder: Path, codes: npt.NDArray[np.uint8]) -> int:
    """Count the kept documents that differ in more than case, white space and digits."""
    found = (
        np.unique(sketches["folded"][codes[first : first + len(sketches)] != DROPPED])
        for first, sketches in read(folder)
    )
    return len(np.unique(np.concatenate(list(found))))


def _too_few(
    name: str, kept: int, contents: int, duplicates: int, followed: NearDuplicates | None
) -> str:
    """Return the error for a split without documents.

    Args:
        kept: Documents that are not exact duplicates.
        contents: Of these, those that differ in more than case, white space and digits.
        duplicates: Exact duplicates.
        followed: Near-duplicates, if the split is empty because documents were moved with them.
    """
    beside = f" ({duplicates:,} exact duplicates skipped)" if duplicates else ""
    message = f"the {name} split got none of {kept:,} document(s){beside}"
    change = "lower" if name == TRAIN else "raise"
    fractions = f"{change} split.validation_fraction or split.test_fraction"
    if followed is not None:
        # Other fractions move whole groups, which does not help if one group is most of the corpus.
        apart = kept - followed.documents + followed.groups
        more = f"; or {fractions}" if apart > kept / 2 else ""
        return (
            f"{message}, because {followed.documents:,} of them are near-duplicates of each other, "
            f"in {followed.groups:,} group(s), and no group is divided: set split.near_duplicates: "
            "0 to divide them (test documents then resemble training documents), or add other "
            f"text{more}"
        )
    if contents < kept / 2:
        return (
            f"{message}, because all but {contents:,} of them differ from another only in digits, "
            "case or white space, and such documents stay in one split: add other text"
        )
    return (
        f"{message}: {fractions}, or cut the text into more documents with download.separator, "
        'like "\\n\\n"'
    )


# ----- what follows from all of them


def _drop_duplicates(folder: Path, codes: npt.NDArray[np.uint8]) -> int:
    """Mark every document that occurred before. Returns how many.

    The hashes are first sorted into files by remainder, each of which fits in memory.
    """
    count = min(len(codes) // AT_ONCE + 1, PARTS)
    dropped = 0
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"hashes-{n}").open("w+b")) for n in range(count)]
        for first, sketches in read(folder):
            parts = sketches["content"] % np.uint64(count)
            order = np.argsort(parts, kind="stable")
            rows = np.empty(len(order), dtype=HASH)
            rows["content"], rows["number"] = sketches["content"][order], first + order
            ends = np.searchsorted(parts[order], np.arange(count), side="right")
            for file, some in zip(files, np.split(rows, ends[:-1]), strict=True):
                file.write(some.data)
        for file in files:
            file.seek(0)
            rows = np.fromfile(file, dtype=HASH)
            _, kept = np.unique(rows["content"], return_index=True)  # first occurrence of each
            again = np.delete(rows["number"], kept)
            codes[again] = DROPPED
            dropped += len(again)
    return dropped


def _join_near_duplicates(folder: Path, codes: npt.NDArray[np.uint8]) -> NearDuplicates:
    """Give each document the split of the first document of its group."""
    shape = (len(codes), near_duplicates.BANDS * near_duplicates.ROWS)
    signatures = np.memmap(folder / SIGNATURES, dtype=np.uint16, mode="r", shape=shape)
    firsts = near_duplicates.groups(signatures)
    kept = codes != DROPPED  # the first document is always kept
    moved = kept & (codes != codes[firsts])
    codes[kept] = codes[firsts[kept]]
    sizes = np.bincount(firsts[kept], minlength=len(codes))
    sizes = sizes[sizes > 1]
    return NearDuplicates(len(sizes), int(sizes.sum()), int(moved.sum()))


def _sizes(folder: Path, codes: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Return the size in bytes of the documents of each split."""
    totals = np.zeros(len(SPLITS), dtype=np.int64)
    for first, sketches in read(folder):
        mine = codes[first : first + len(sketches)]
        totals += [int(sketches["bytes"][mine == code].sum()) for code in range(len(SPLITS))]
    return dict(zip(SPLITS, totals.tolist(), strict=True))


# ----- a single document


def _cut_by_position(
    corpus: Corpus, folder: Path, codes: npt.NDArray[np.uint8], settings: "Split"
) -> tuple[tuple[int, int], dict[str, int]]:
    """Return where to cut a single document into training, validation and test part.

    Returns:
        The characters at which the second and the third part begin; the approximate size of each.
    """
    document = read_one(folder, int(np.argmax(codes != DROPPED)))
    length = int(document["characters"])
    shares = 1 - settings.validation_fraction - settings.test_fraction, 1 - settings.test_fraction
    starts = [round(length * share) for share in shares]
    limits = [(start + end) // 2 for start, end in pairwise([*starts, length])]
    first, second = (
        _cut_from(_kept(corpus(), codes), start, limit)
        for start, limit in zip(starts, limits, strict=True)
    )
    parts = zip(SPLITS, np.diff([0, first, second, length]).tolist(), strict=True)
    ratio = int(document["bytes"]) / max(length, 1)
    return (first, second), {name: round(part * ratio) for name, part in parts}


def _cut_from(pieces: Iterable[Piece], start: int, limit: int) -> int:
    """Return where to cut from `start` up to `limit`: after the line, else after the word.

    If neither ends before `limit` (very long lines or words would leave the next part less than
    half of its share), cut at `start` itself.
    """
    begin, word_end = 0, None
    for text, _ in pieces:
        low, high = max(start - begin, 0), max(limit - begin, 0)
        if (line_end := text.find("\n", low, high)) >= 0:
            return begin + line_end + 1
        if word_end is None and (space := _SPACE.search(text, low, high)):
            word_end = begin + space.end()
        begin += len(text)
        if begin >= limit:
            break
    return start if word_end is None else word_end


# ----- reading again


def labelled(corpus: Corpus, found: Survey) -> Iterator[tuple[int, Piece]]:
    """Yield each kept document, with its split's index, in pieces that can be encoded separately.

    A single document gives three: its parts.
    """
    pieces = _kept(corpus(), found.codes)
    if found.cuts is not None:
        pieces = _cut_at(pieces, found.cuts)
        codes: Iterator[int] = iter(range(len(SPLITS)))
    else:
        codes = (code for code in _each(found.codes) if code != DROPPED)
    code = None
    for piece in cut_safely(pieces):
        code = next(codes) if code is None else code
        yield code, piece
        code = None if piece.last else code


def _each(codes: npt.NDArray[np.uint8]) -> Iterator[int]:
    for first in range(0, len(codes), AT_ONCE):
        yield from codes[first : first + AT_ONCE].tolist()


def _kept(pieces: Iterable[Piece], codes: npt.NDArray[np.uint8]) -> Iterator[Piece]:
    """Yield the pieces of documents that are not dropped."""
    each = _each(codes)
    code = None
    for piece in pieces:
        code = next(each) if code is None else code
        if code != DROPPED:
            yield piece
        code = None if piece.last else code


def _cut_at(pieces: Iterable[Piece], cuts: tuple[int, int]) -> Iterator[Piece]:
    """Yield a document as several documents that begin at the given characters."""
    begin = 0
    for text, last in pieces:
        inside = [cut - begin for cut in cuts if begin < cut <= begin + len(text)]
        start = 0
        for cut in inside:
            yield Piece(text[start:cut], True)
            start = cut
        if last or start < len(text):
            yield Piece(text[start:], last)
        begin += len(text)
