"""How documents lie in files: what the settings of `download` say about reading."""

from dataclasses import dataclass
from typing import Literal

from tinyllm.data.readers.compression import unpacked_name

Format = Literal["text", "jsonl", "json", "csv", "tsv", "parquet"]
Errors = Literal["strict", "replace"]
SUFFIXES: dict[str, Format] = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Layout:
    """How the documents of a corpus lie in its files; the settings of `download` by these names.

    Attributes:
        format: "auto": of each file by its suffix and its content.
        files: a glob pattern of the files in a folder or an archive; None: those with a suffix
            of SUFFIXES.
        field: the key or column of a document's text; `a.b` of one within another, `a[].b` of
            each element of a list.
        records: JSON: where the list of records lies in a file that holds one object, like `data`.
        separator: text: what stands between two documents.
        document_start: text: a regular expression; a line that it matches begins a document.
        errors: what becomes of bytes that are not of the encoding.
        encoding: a codec that Python knows; "auto": of each file by its content.
        on_invalid: what becomes of a record that holds no text.
    """

    format: Literal["auto"] | Format = "auto"
    files: str | None = None
    field: str = "text"
    records: str | None = None
    separator: str | None = None
    document_start: str | None = None
    errors: Errors = "strict"
    encoding: str = "utf-8"
    on_invalid: Literal["error", "skip"] = "error"

    def format_by_name(self, name: str) -> Format | None:
        """The format that is set, or that a file's suffix stands for; None: neither."""
        if self.format != "auto":
            return self.format
        _, dot, suffix = unpacked_name(name).rpartition(".")
        return SUFFIXES.get(dot + suffix.lower())
