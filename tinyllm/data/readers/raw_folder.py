"""Read the documents of a downloaded corpus.

A raw folder contains the corpus' files in `files/`, unchanged and still compressed, and
`manifest.json`, which says how to read them. Many small files are packed: their documents are in
a few JSON Lines files. The folder is sealed (`tinyllm.common.files`).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.common.files import checked, checksums, read_json, seal, write_json
from tinyllm.data.readers.documents import Piece
from tinyllm.data.readers.formats import file_pieces
from tinyllm.data.readers.layout import Layout

MANIFEST = "manifest.json"
FILES = "files"
PACK_LAYOUT = Layout(format="jsonl")
# Written only if different from these: a manifest without them keeps its bytes.
USUAL = {"skipped": 0, "replaced": {}, "notes": []}
USUAL_FILE = {"packed": None}
USUAL_LAYOUT = {"encoding": "utf-8", "on_invalid": "error", "records": None}


@dataclass(frozen=True)
class Archive:
    """An archive that was unpacked: its name, and the size and SHA-256 of the original file."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Packed:
    """The origin of a pack.

    Attributes:
        files: Names of the packed files, in order. If an archive fills several packs, the first
            pack lists all of its files.
        empty: The files without text; unknown for members of an archive.
        archive: The archive that contained the files; None: no archive.
    """

    files: list[str]
    empty: list[str]
    archive: Archive | None = None


@dataclass(frozen=True)
class RawFile:
    """A file of a corpus.

    Attributes:
        name: Path inside `files/`.
        bytes, sha256: Of the original file.
        documents: Number of documents in it.
        members: Of an archive: the members that are read, in order; None: not an archive.
        packed: Of a pack: the small files whose documents it contains; None: not a pack.
    """

    name: str
    bytes: int
    sha256: str
    documents: int
    members: list[str] | None
    packed: Packed | None = None


@dataclass(frozen=True)
class Manifest:
    """The contents of a raw folder and their origin.

    Attributes:
        source: Origin of the text: a name of the catalogue, an address, a file or a folder.
        licence: Licence of the text; None if not stated.
        layout: How the documents are stored in the files.
        documents: Number of documents.
        bytes: Size of all documents in UTF-8.
        files: In reading order.
        skipped: Number of invalid records, which are not among the documents.
        replaced: Number of characters replaced by U+FFFD, by file.
        notes: Findings of the readers for the user.
    """

    source: str
    licence: str | None
    layout: Layout
    documents: int
    bytes: int
    files: list[RawFile]
    skipped: int = 0
    replaced: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Return the number of original files."""
        return sum(len(file.packed.files) if file.packed else 1 for file in self.files)

    @property
    def without_text(self) -> list[str]:
        """Return the names of the original files without text."""
        names = ((f.packed.empty if f.packed else [f.name][f.documents :]) for f in self.files)
        return [name for some in names for name in some]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a raw folder whose files are complete, and seal the folder."""
    content = _unusual(asdict(manifest), USUAL)
    content["layout"] = _unusual(content["layout"], USUAL_LAYOUT)
    content["files"] = [_unusual(file, USUAL_FILE) for file in content["files"]]
    write_json(folder / MANIFEST, content)
    seal(folder, {f"{FILES}/{file.name}": file.sha256 for file in manifest.files})


def _unusual(content: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in content.items() if k not in usual or v != usual[k]}


def read_manifest(folder: Path) -> Manifest:
    """Read a raw folder's manifest.

    Raises:
        ValueError: The manifest is missing or corrupt.
    """
    content = read_json(checked(folder, MANIFEST))
    files = [_raw_file(**file) for file in content.pop("files")]
    return Manifest(files=files, layout=Layout(**content.pop("layout")), **content)


def _raw_file(packed: dict[str, Any] | None = None, **fields: Any) -> RawFile:
    if packed is None:
        return RawFile(**fields)
    archive = packed.pop("archive")
    return RawFile(
        packed=Packed(archive=Archive(**archive) if archive else None, **packed), **fields
    )


def read_pieces(folder: Path) -> Iterator[Piece]:
    """Yield the documents of a raw folder in order, long ones in pieces; skips empty ones.

    Memory depends neither on the size of the corpus nor on that of a document, except that a record
    of JSON Lines or Parquet is read at once.

    Raises:
        ValueError: A file is missing or corrupt.
    """
    manifest = read_manifest(folder)
    sums = checksums(folder)
    for file in manifest.files:
        path = checked(folder, f"{FILES}/{file.name}", sums)
        layout = PACK_LAYOUT if file.packed else manifest.layout
        yield from file_pieces(path, file.name, file.members, layout)
