"""The documents in a file of text, JSON Lines or Parquet."""

import io
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from tinyllm.documents import pieces
from tinyllm.documents.pieces import Part, Piece
from tinyllm.documents.streams import (
    CHUNK,
    Errors,
    Spend,
    chunks,
    decoded,
    line_feeds,
    spend_freely,
    streams,
    unpacked_name,
)

Format = Literal["text", "jsonl", "parquet"]
SUFFIXES: dict[str, Format] = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
LONGEST_LINE = 1 << 28  # characters of JSON: a record has to be in memory at once
ROWS = 64  # of Parquet in memory at once


@dataclass(frozen=True)
class Layout:
    """How the documents of a corpus lie in its files; the settings of `download` by these names.

    Attributes:
        format: "auto": of each file by its suffix.
        files: a glob pattern of the files in a folder or a zip archive; None: those with a suffix
            of SUFFIXES.
        field: the key or column of a document's text.
        separator: text: what stands between two documents.
        document_start: text: a regular expression; a line that it matches begins a document.
        errors: what becomes of bytes that are not UTF-8.
    """

    format: Literal["auto", "text", "jsonl", "parquet"] = "auto"
    files: str | None = None
    field: str = "text"
    separator: str | None = None
    document_start: str | None = None
    errors: Errors = "strict"

    def format_of(self, name: str) -> Format:
        """The format of a file of that name."""
        if self.format != "auto":
            return self.format
        return SUFFIXES.get(Path(unpacked_name(name)).suffix.lower(), "text")


def file_pieces(
    path: Path,
    name: str,
    members: list[str] | None,
    layout: Layout,
    spend: Spend = spend_freely,
) -> Iterator[Piece]:
    """Yield the documents of a file in pieces, in order.

    Args:
        name, members: see `streams`.

    Raises:
        ValueError: something in it is not what it should be; says what and where.
    """
    for inner, stream in streams(path, name, members):
        format = layout.format_of(inner)
        if format == "text":
            text = decoded(chunks(stream, inner, spend), inner, layout.errors)
            yield from pieces.pieces(_documents(text, layout))
            continue
        if layout.separator or layout.document_start:
            key = "separator" if layout.separator else "document_start"
            raise ValueError(
                f"download.{key}: is for plain text, but {inner} holds records, each a document"
            )
        records = _jsonl if format == "jsonl" else _parquet
        yield from pieces.pieces(_ended(records(stream, inner, layout, spend)))


def _documents(text: Iterator[str], layout: Layout) -> Iterator[Part]:
    if layout.separator is not None:
        return pieces.separated(text, layout.separator)
    if layout.document_start is not None:
        return pieces.begun(text, layout.document_start)
    return pieces.whole(text)


def _ended(records: Iterable[str]) -> Iterator[Part]:
    for text in records:
        yield line_feeds(text), True


# ----- JSON Lines


def _jsonl(stream: IO[bytes], name: str, layout: Layout, spend: Spend) -> Iterator[str]:
    text = decoded(chunks(stream, name, spend), name, layout.errors)
    for number, line in enumerate(_lines(text, name), start=1):
        if not line or line.isspace():
            continue
        where = f"{name}, line {number:,}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: is not JSON: {error.msg} at column {error.colno}") from None
        except (ValueError, RecursionError) as error:  # numbers and nesting beyond all measure
            raise ValueError(f"{where}: is not JSON for a person: {error}") from None
        yield _well_formed(_text_of(record, layout.field, where), where, layout.errors)


def _lines(text: Iterable[str], name: str) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for chunk in text:
        first, *more = chunk.split("\n")
        held.append(first)
        size += len(first)
        if more:
            yield "".join(held)
            yield from more[:-1]
            held, size = [more[-1]], len(more[-1])
        if size > LONGEST_LINE:
            raise ValueError(
                f"{name} has a line of more than {LONGEST_LINE >> 20} MB: is it JSON Lines?"
            )
    yield "".join(held)


def _text_of(record: Any, field: str, where: str) -> str:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: is {_kind(record)}, not a JSON object")
    if field not in record:
        there = ", ".join(map(repr, list(record)[:10])) or "nothing"
        raise ValueError(
            f"{where}: has no {field!r}, but {there}; download.field says which to read"
        )
    text = record[field]
    if not isinstance(text, str):
        raise ValueError(f"{where}: its {field!r} is {_kind(text)}, not text")
    return text


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _well_formed(text: str, where: str, errors: Errors) -> str:
    """JSON can spell half of a surrogate pair, which no encoding can write."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        if errors == "strict":
            raise ValueError(f"{where}: has half of a surrogate pair, which is no text") from None
        return re.sub("[\ud800-\udfff]", "\ufffd", text)
    return text


# ----- Parquet


def _parquet(stream: IO[bytes], name: str, layout: Layout, spend: Spend) -> Iterator[str]:
    if isinstance(stream, io.BufferedReader):
        yield from _rows(stream, name, layout, spend)
        return
    with tempfile.TemporaryFile() as file:  # Parquet is read from its end
        for chunk in chunks(stream, name, spend):
            file.write(chunk)
        file.seek(0)
        yield from _rows(file, name, layout, spend)


def _rows(file: IO[bytes], name: str, layout: Layout, spend: Spend) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=CHUNK)
        _check_column(table.schema_arrow, layout.field, name)
        number = 0
        for batch in table.iter_batches(ROWS, columns=[layout.field]):
            column = batch.column(0)
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            for data in column.cast(pa.large_binary()).to_pylist():
                number += 1
                if data is None:
                    raise ValueError(f"{name}, row {number:,}: its {layout.field!r} is null")
                spend(len(data))
                yield _row_text(data, f"{name}, row {number:,}", layout.errors)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        first = next(iter(str(error).splitlines()), "")
        raise ValueError(f"{name} is not Parquet, or damaged: {first}") from None


def _check_column(schema: Any, field: str, name: str) -> None:
    import pyarrow as pa

    if field not in schema.names:
        there = ", ".join(map(repr, schema.names[:10])) or "nothing"
        raise ValueError(
            f"{name}: has no column {field!r}, but {there}; download.field says which to read"
        )
    if (count := schema.names.count(field)) > 1:
        raise ValueError(f"{name}: has {count} columns {field!r}; rename all but the one to read")
    kind = schema.field(field).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"{name}: its column {field!r} holds {kind}, not text")


def _row_text(data: bytes, where: str, errors: Errors) -> str:
    try:
        return data.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: is not UTF-8: byte {data[error.start]:#04x} at offset {error.start:,}"
        ) from None
