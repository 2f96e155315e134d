"""Keep a sketch of each document of a corpus in files: hashes, sizes, signature.

The files are written in the order of the documents, and read in blocks.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyllm.data.readers.documents import Piece
from tinyllm.data.split_rule import ContentHash
from tinyllm.data.tokenize import near_duplicates
from tinyllm.data.tokenize.batches import PIECE, Corpus
from tinyllm.data.tokenize.workers import Workers

AT_ONCE = 1 << 16  # documents read at a time
# Among six million documents, the probability that two share 64 bits by chance is 1e-6.
SKETCH = np.dtype([("content", "<u8"), ("folded", "<u8"), ("bytes", "<i8"), ("characters", "<i8")])
SKETCHES, SIGNATURES = "sketches", "signatures"

Sketches = npt.NDArray[Any]  # (N,) records of SKETCH
Found = tuple[Sketches, near_duplicates.Signatures | None]


class _Sketch:
    """The sketch of a document, which may be given in pieces."""

    def __init__(self) -> None:
        self._content = hashlib.blake2b(digest_size=8)
        self._folded = ContentHash()
        self._bytes = self._characters = 0
        self._signature: near_duplicates.Signatures | None = None

    def add(self, text: str) -> bytes:
        """Add a piece. Returns it folded."""
        content = text.encode()
        self._content.update(content)
        self._bytes += len(content)
        self._characters += len(text)
        return self._folded.update(text)

    def add_signed(self, text: str) -> None:
        """Add a piece, and its phrases to the signature."""
        new = near_duplicates.signatures([self.add(text)])
        self._signature = new if self._signature is None else np.minimum(self._signature, new)

    def row(self) -> tuple[int, int, int, int]:
        content = int.from_bytes(self._content.digest(), "big")
        return content, self._folded.value, self._bytes, self._characters

    def found(self) -> Found:
        return np.array([self.row()], dtype=SKETCH), self._signature


class _Batch(NamedTuple):
    """Whole documents for a worker; or the sketch of one that came in pieces."""

    texts: list[str]
    signed: bool
    found: Found | None = None


def _batches(pieces: Iterable[Piece], limit: int) -> Iterator[_Batch]:
    """Yield documents in batches of about PIECE characters, signed up to `limit` characters."""
    texts: list[str] = []
    held = total = 0
    long: _Sketch | None = None
    for text, last in pieces:
        total += len(text)
        if last and long is None:
            texts.append(text)
            held += len(text)
        if texts and (held >= PIECE or not last):
            yield _Batch(texts, total <= limit)
            texts, held = [], 0
        if not last or long is not None:
            long = long or _Sketch()
            if total <= limit:
                long.add_signed(text)
            else:
                long.add(text)
            if last:
                yield _Batch([], total <= limit, long.found())
                long = None
    if texts:
        yield _Batch(texts, total <= limit)


def _sketch(batch: _Batch) -> Found:
    """Return the sketches of a batch of documents."""
    if batch.found is not None:
        return batch.found
    rows, folded = [], []
    for text in batch.texts:
        sketch = _Sketch()
        folded.append(sketch.add(text))
        rows.append(sketch.row())
    return np.array(rows, dtype=SKETCH), near_duplicates.signatures(
        folded
    ) if batch.signed else None


def write_sketches(corpus: Corpus, limit: int, folder: Path, workers: Workers) -> int:
    """Write the sketches of a corpus, and signatures until the corpus exceeds `limit`.

    Args:
        limit: Size in bytes of the largest corpus to sign.

    Returns:
        Size of all documents in bytes.
    """
    size = 0
    with ExitStack() as stack:
        names = (folder / SKETCHES, folder / SIGNATURES)
        sketches, signatures = (stack.enter_context(name.open("wb")) for name in names)
        for _, (some, signed) in workers.map(_sketch, _batches(corpus(), limit)):
            sketches.write(some.data)  # the error of tofile gives no reason
            size += int(some["bytes"].sum())
            if signed is not None and size <= limit:
                signatures.write(signed.data)
    return size


def count_sketches(folder: Path) -> int:
    """Return the number of documents."""
    return (folder / SKETCHES).stat().st_size // SKETCH.itemsize


def read(folder: Path) -> Iterator[tuple[int, Sketches]]:
    """Yield the sketches in blocks, each with the number of its first document."""
    first = 0
    with (folder / SKETCHES).open("rb") as file:
        while len(sketches := np.fromfile(file, dtype=SKETCH, count=AT_ONCE)):
            yield first, sketches
            first += len(sketches)


def read_one(folder: Path, number: int) -> Any:
    """Return the sketch of one document."""
    offset = number * SKETCH.itemsize
    return np.fromfile(folder / SKETCHES, dtype=SKETCH, count=1, offset=offset)[0]
