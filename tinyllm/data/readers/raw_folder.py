"""The documents of a downloaded corpus, one after the other.

A raw folder holds the corpus' files as they came, compressed or not, in `files/`, and
`manifest.json`, which says how to read them. Many small files are packed: their documents lie in
few files of JSON Lines. The folder is sealed (`tinyllm.common.files`).
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
# Written only where they are not so: a manifest that needs none of them keeps its bytes.
USUAL = {"skipped": 0, "replaced": {}, "notes": []}
USUAL_FILE = {"packed": None}
USUAL_LAYOUT = {"encoding": "utf-8", "on_invalid": "error", "records": None}


@dataclass(frozen=True)
class Archive:
    """An archive that was unpacked: its name, and bytes and SHA-256 as it came."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Packed:
    """What a pack was made of.

    Attributes:
        files: the names of the files, in order. Of an archive that fills several packs, the first
            has them all.
        empty: those of the files that hold no text; not known of an archive's members.
        archive: that the files were in; None: in none.
    """

    files: list[str]
    empty: list[str]
    archive: Archive | None = None


@dataclass(frozen=True)
class RawFile:
    """One file of a corpus.

    Attributes:
        name: within `files/`.
        bytes, sha256: of the file as it came.
        documents: how many are in it.
        members: of an archive: those that are read, in order; None: it is none.
        packed: of a pack: the small files whose documents are in it; None: it is none.
    """

    name: str
    bytes: int
    sha256: str
    documents: int
    members: list[str] | None
    packed: Packed | None = None


@dataclass(frozen=True)
class Manifest:
    """What a raw folder holds and where it came from.

    Attributes:
        source: the text's origin: a name of the catalogue, address, file or folder name.
        licence: of the text; None if not stated.
        layout: how the documents lie in the files.
        documents: how many there are.
        bytes: of all documents, UTF-8.
        files: in reading order.
        skipped: records that are not valid, and not among the documents.
        replaced: characters that U+FFFD took the place of, by file.
        notes: what a user has to know of how the files were read.
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
        """How many files came."""
        return sum(len(file.packed.files) if file.packed else 1 for file in self.files)

    @property
    def without_text(self) -> list[str]:
        """The names of the files that came and hold no text."""
        names = ((f.packed.empty if f.packed else [f.name][f.documents :]) for f in self.files)
        return [name for some in names for name in some]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a raw folder that is complete but for it, and seal the folder."""
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
        ValueError: there is none, or it is damaged.
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
    """Yield the documents of a raw folder in order, long ones in pieces, empty ones left out.

    Memory does not grow with the corpus, nor with a document (but for a record of JSON Lines or
    Parquet, which has to be read at once).

    Raises:
        ValueError: a file is missing or damaged.
    """
    manifest = read_manifest(folder)
    sums = checksums(folder)
    for file in manifest.files:
        path = checked(folder, f"{FILES}/{file.name}", sums)
        layout = PACK_LAYOUT if file.packed else manifest.layout
        yield from file_pieces(path, file.name, file.members, layout)
