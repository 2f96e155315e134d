"""How documents are stored in files: the settings of `download` about reading."""

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
    """How the documents of a corpus are stored in its files; attributes are named as in `download`.

    Attributes:
        format: "auto": detected for each file by its suffix and content.
        files: A glob pattern of the files in a folder or an archive; None: those with a suffix
            of SUFFIXES.
        field: The key or column of a document's text; `a.b` is a nested key, `a[].b` a key of
            each element of a list.
        records: JSON: path of the list of records in a file with a single object, like `data`.
        separator: Text: the text between two documents.
        document_start: Text: a regular expression; a line that it matches begins a document.
        errors: How to handle bytes that are invalid in the encoding.
        encoding: A Python codec; "auto": detected for each file by its content.
        on_invalid: How to handle a record without a text.
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
        """Return the format that is set or that a file's suffix stands for; None: neither."""
        if self.format != "auto":
            return self.format
        _, dot, suffix = unpacked_name(name).rpartition(".")
        return SUFFIXES.get(dot + suffix.lower())
