"""Pack many small files as JSON Lines: one record per document.

50,000 files of 2 kB take minutes to copy, flush to disk and hash one by one, and every stage that
reads them opens each file (or unpacks each archive member) again; one JSON Lines file takes a
second.
"""

import hashlib
from collections.abc import Sequence
from json import JSONEncoder
from pathlib import Path

from tinyllm.common.files import sha256_of
from tinyllm.data.readers.documents import LONGEST, Piece
from tinyllm.data.readers.raw_folder import Archive, Packed, RawFile
from tinyllm.data.sources.folder import Found

SMALL = 1 << 18  # bytes, at most, of a file that is packed; of an archive's members on average
MANY = 200  # up to this many small files or members are not packed
PACK = 1 << 25  # bytes after which the next pack begins; memory holds one pack

_encode = JSONEncoder(ensure_ascii=False).encode


def packable(found: Sequence[Found]) -> set[str]:
    """Return the names of the files whose documents can be packed."""
    small = {file.name for file in found if file.size <= SMALL and file.members is None}
    archives = {
        file.name
        for file in found
        if file.members and len(file.members) > MANY and file.size <= SMALL * len(file.members)
    }
    return archives | (small if len(small) > MANY else set())


class Packs:
    """Packs in a folder, with names that no file of the corpus has.

    Attributes:
        done: Packs that are written.
    """

    def __init__(self, folder: Path, found: Sequence[Found]) -> None:
        self.done: list[RawFile] = []
        self._folder, self._prefix = folder, "packed"
        while any(file.name.startswith(self._prefix) for file in found):
            self._prefix = f"_{self._prefix}"
        self._lines: list[bytes] = []
        self._size = 0
        self._of = Packed([], [])

    def file(self, file: Found) -> "PackedFile":
        """Return an object that packs a file's documents."""
        return PackedFile(self, file.name)

    def archive(self, archive: Found) -> "PackedArchive":
        """Return an object that packs an archive's documents, apart from others."""
        self.flush()
        return PackedArchive(self, archive)

    def add(self, record: dict[str, str]) -> bool:
        """Add a document. Returns whether the pack is full."""
        self._lines.append(f"{_encode(record)}\n".encode())
        self._size += len(self._lines[-1])
        return self._size >= PACK

    def contains(self, name: str, empty: bool) -> None:
        """Record a file whose documents were added."""
        self._of.files.append(name)
        if empty:
            self._of.empty.append(name)

    def flush(self, archive: Archive | None = None) -> None:
        """Write the added documents."""
        if self._lines or self._of.files:
            path = self._folder / f"{self._prefix}-{len(self.done):05d}.jsonl"
            data = b"".join(self._lines)
            path.write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            packed = Packed(
                self._of.files, self._of.empty if self._lines else self._of.files, archive
            )
            self.done.append(RawFile(path.name, len(data), digest, len(self._lines), None, packed))
        self.discard(len(self.done))

    def discard(self, first: int) -> None:
        """Drop documents that were added but not written, and packs from a number on."""
        for pack in self.done[first:]:
            (self._folder / pack.name).unlink()
        del self.done[first:]
        self._lines, self._size, self._of = [], 0, Packed([], [])


class PackedFile:
    """A small file; either all of its documents are added or none."""

    def __init__(self, packs: Packs, name: str) -> None:
        self._packs, self._name = packs, name
        self._texts: list[str] = []
        self._size = 0

    def add(self, piece: Piece) -> bool:
        """Add a document. Returns whether it and all before it are short."""
        self._texts.append(piece.text)
        self._size += len(piece.text)
        return piece.last and self._size <= LONGEST

    def close(self) -> None:
        """Add the documents to the packs."""
        self._packs.contains(self._name, empty=not self._texts)
        full = [self._packs.add({"text": text, "file": self._name}) for text in self._texts]
        if any(full):
            self._packs.flush()


class PackedArchive:
    """An archive whose documents are in packs of its own."""

    def __init__(self, packs: Packs, archive: Found) -> None:
        self._packs, self._found = packs, archive
        self._first = len(packs.done)
        digest = archive.digest or sha256_of(Path(archive.path))
        self._archive = Archive(archive.name, archive.size, digest)
        for member in archive.members or ():
            packs.contains(f"{archive.name}/{member}", empty=False)

    def add(self, piece: Piece) -> bool:
        """Add a document. Returns whether it is short; if not, drops the whole archive."""
        if not piece.last:
            self._packs.discard(self._first)
        elif self._packs.add({"text": piece.text}):
            self._packs.flush(self._archive)
        return piece.last

    def close(self) -> None:
        """Write the last pack."""
        self._packs.flush(self._archive)
