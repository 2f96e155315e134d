"""The documents of a downloaded corpus, one after the other.

A raw folder holds the corpus' files and `manifest.json`, which says how to read them. It is sealed
(`tinyllm.common.files`).
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tinyllm.common.files import checked, read_json, seal, write_json

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RawFile:
    """One file of a corpus: its name in the raw folder, its size in bytes, its SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a raw folder holds and where it came from.

    Attributes:
        source: the text's origin: package and version, address, or file name.
        licence: of the text; None if not stated.
        format: "text", or "jsonl" with the document under "text" in each line.
        separator: format "text": what stands between two documents; None: a file is one document.
        documents: how many there are.
        bytes: of all documents, UTF-8.
        files: in reading order.
    """

    source: str
    licence: str | None
    format: Literal["text", "jsonl"]
    separator: str | None
    documents: int
    bytes: int
    files: list[RawFile]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a raw folder that is complete but for it, and seal the folder."""
    write_json(folder / MANIFEST, asdict(manifest))
    seal(folder)


def read_manifest(folder: Path) -> Manifest:
    """Read a raw folder's manifest.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    content = read_json(checked(folder, MANIFEST))
    files = [RawFile(**file) for file in content.pop("files")]
    return Manifest(files=files, **content)


def read_documents(folder: Path) -> Iterator[str]:
    """Yield the text of each document of a raw folder, in order, empty ones left out.

    Raises:
        ValueError: a file is missing or damaged.
    """
    manifest = read_manifest(folder)
    for file in manifest.files:
        path = checked(folder, file.name)
        yield from file_documents(path, manifest.format, manifest.separator)


def file_documents(
    path: Path, format: Literal["text", "jsonl"], separator: str | None
) -> Iterator[str]:
    """Yield the documents of one file; line ends become `\\n`, a byte-order mark is dropped."""
    if format == "jsonl":
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield json.loads(line)["text"]
        return
    text = read_utf8(path)
    for document in [text] if separator is None else text.split(separator):
        if document.strip():
            yield document


def read_utf8(path: Path) -> str:
    """Read a text file.

    Raises:
        ValueError: it is not UTF-8 (names the file and the byte offset).
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}"
        ) from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
