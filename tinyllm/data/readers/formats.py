"""Read the documents of a file of text, JSON Lines, JSON, CSV, TSV or Parquet."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tinyllm.data.readers import documents, evidence
from tinyllm.data.readers.archives import member_streams
from tinyllm.data.readers.compression import (
    Spend,
    chunks,
    damage_named,
    packing_by_name,
    packing_of,
    spend_freely,
    unpacked,
    unpacked_name,
)
from tinyllm.data.readers.csv_records import csv_records
from tinyllm.data.readers.decoding import decoded, text_without_nuls
from tinyllm.data.readers.detecting import SAMPLE, detected, is_utf8
from tinyllm.data.readers.documents import Part, Piece
from tinyllm.data.readers.findings import Findings
from tinyllm.data.readers.json_records import json_records, jsonl
from tinyllm.data.readers.layout import Format, Layout
from tinyllm.data.readers.parquet import parquet_records
from tinyllm.data.readers.records import Record, texts

DELIMITERS = {"csv": ",;\t|", "tsv": "\t"}
UNITS = {"jsonl": "line", "json": "record", "csv": "line", "tsv": "line", "parquet": "row"}


def file_pieces(
    path: Path | str,
    name: str,
    members: list[str] | None,
    layout: Layout,
    spend: Spend = spend_freely,
    findings: Findings | None = None,
) -> Iterator[Piece]:
    """Yield the documents of a file in pieces, in order.

    Args:
        name: The file's name in errors.
        members: The members of an archive to read; None: read the file itself.
        findings: Counts what is skipped, replaced and detected.

    Raises:
        ValueError: Something in the file is wrong; the message says what and where.
    """
    findings = Findings() if findings is None else findings
    for inner, stream in _streams(path, name, members, spend):
        packed = members is not None or unpacked_name(inner) != inner
        yield from documents.pieces(_parts(stream, inner, layout, spend, findings, packed))


def _streams(
    path: Path | str, name: str, members: Sequence[str] | None, spend: Spend = spend_freely
) -> Iterator[tuple[str, IO[bytes]]]:
    """Open each byte stream in a file one after the other, decompressed.

    Args:
        name: The file's name in errors.
        members: The members of an archive to read; None: read the file itself.
        spend: Counts what is unpacked to find the members, not what is read of them.

    Yields:
        The stream's name (of a member, prefixed by the archive's), and the stream.
    """
    if members is None:
        with open(path, "rb") as file:  # noqa: PTH123 (for many files)
            yield name, _unpacked(file, name)
        return
    for member, inner in member_streams(Path(path), name, members, spend):
        yield f"{name}/{member}", _unpacked(inner, f"{name}/{member}")


def _unpacked(file: Any, name: str) -> IO[bytes]:
    if not (packing := packing_by_name(name)):
        return file
    with damage_named(name):
        head = file.peek(512)
    if packing_of(head) != packing:
        if kind := evidence.instead(head):
            raise ValueError(f"{name} is not {packing[1:]}-compressed: {kind}")
        if head and 0 not in head and is_utf8(head):  # decompressed by a proxy or browser
            raise ValueError(
                f"{name} is not {packing[1:]}-compressed but plain text; rename it to "
                f"{Path(unpacked_name(name)).name}"
            )
    return unpacked(file, name, packing)


def _parts(
    stream: IO[bytes], name: str, layout: Layout, spend: Spend, findings: Findings, packed: bool
) -> Iterable[Part]:
    data = chunks(stream, name, spend)
    head = b""
    while len(head) < SAMPLE and (chunk := next(data, b"")):
        head += chunk
    data = chain([head], data)
    encoding = layout.encoding
    format = layout.format_by_name(name) or _format_by_content(head)
    if format == "parquet":
        _check_parquet(head, name)
        records = _parquet(stream, data, name, layout, spend)
    else:
        if packed:
            _check_packed_once(head, name)
        evidence.check_signature(head, name)
        if encoding == "auto" and (encoding := detected(head, name)) != "utf-8":
            findings.encodings[name] = encoding
        evidence.check_text(head, name, layout, encoding, named_text=format == "text")
        errors: str = layout.errors
        if format == "text":
            text = text_without_nuls(data, name, errors, encoding, findings)
            return _documents(text, layout, findings)
        if layout.on_invalid == "skip" and errors == "strict":
            errors = "surrogateescape"  # the surrogates show which record is invalid
        text = decoded(data, name, errors, encoding, findings)
        if layout.format == "auto" and format in ("json", "jsonl"):
            format = _json_format(head.decode(encoding, "ignore"), format)
        if format in DELIMITERS:
            records = csv_records(text, name, DELIMITERS[format], layout.field)
        elif format == "jsonl":
            records = jsonl(text, name)
        else:
            records = json_records(text, name, layout.field, layout.records, findings)
    _check_records(format, name, layout)
    return texts(records, name, UNITS[format], layout, findings)


def _check_records(format: Format, name: str, layout: Layout) -> None:
    """Raise ValueError if a setting does not apply to a file of records in this format."""
    if layout.records and format != "json":
        raise ValueError(
            f"download.records: applies to JSON files with a single object, but {name} is {format}"
        )
    if layout.separator or layout.document_start:
        key = "separator" if layout.separator else "document_start"
        raise ValueError(
            f"download.{key}: applies to plain text, but {name} contains records, one document each"
        )


def _documents(text: Iterator[str], layout: Layout, findings: Findings) -> Iterator[Part]:
    findings.texts += 1
    if layout.separator is not None:
        return documents.separated(text, layout.separator, findings.cut)
    if layout.document_start is not None:
        return documents.begun(text, layout.document_start, findings.cut)
    return documents.whole(text)


def _parquet(
    stream: IO[bytes], data: Iterable[bytes], name: str, layout: Layout, spend: Spend
) -> Iterator[Record]:
    if type(stream) is io.BufferedReader:  # a plain file
        stream.seek(0)
        return parquet_records(stream, name, layout, spend)
    return parquet_records(data, name, layout, spend)


def _check_packed_once(head: bytes, name: str) -> None:
    """Raise ValueError if decompressed data is compressed again; renaming the file can't help."""
    if (kind := evidence.binary(head)) and kind.what.endswith(("compressed data", "archive")):
        nested = "nested archives are not read; " if kind.what.endswith("archive") else ""
        kind = kind._replace(advice=f"{nested}unpack it first")
        raise ValueError(f"{name} is not text: {kind}")


def _check_parquet(head: bytes, name: str) -> None:
    """Raise ValueError if a file is evidently not Parquet; the reader finds all other errors."""
    if not head.startswith((b"PAR1", b"PARE")) and (kind := evidence.instead(head)):
        raise ValueError(f"{name} is not Parquet: {kind}")


def _format_by_content(head: bytes) -> Format:
    """Return the format of a file whose name does not say it."""
    if head.startswith(b"PAR1"):
        return "parquet"
    text = head[: evidence.HEAD].decode("utf-8", "ignore")
    return evidence.json_format(text) or "text"


def _json_format(head: str, named: Format) -> Format:
    """Return JSON Lines or JSON by the beginning of a file: suffixes are used for both."""
    text = head.removeprefix("\ufeff").lstrip()
    first, line_end, rest = text.partition("\n")
    # An array of texts or objects is one JSON value, not a record of JSON Lines.
    array = first.startswith("[") and (named == "json" or first[1:].lstrip()[:1] in ("{", '"'))
    if not line_end:
        return "json" if named == "json" or array else "jsonl"
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        # The value continues on the next line, or several values are in one line.
        part = error.pos >= len(first.rstrip()) or (named == "json" and error.msg == "Extra data")
        return "json" if part or array else "jsonl"
    except (ValueError, RecursionError):  # a number too long, or nesting too deep
        return named
    if rest.strip():
        return "jsonl"
    return "json" if named == "json" or array else "jsonl"
