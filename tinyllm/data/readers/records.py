"""Get the text of each record of a file, and the records of CSV and TSV."""

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

from tinyllm.data.readers.decoding import line_feeds
from tinyllm.data.readers.fields import Invalid, listed, text_of
from tinyllm.data.readers.findings import Findings
from tinyllm.data.readers.layout import Layout

LONGEST = 1 << 28  # characters of a record, which memory holds at once
AHEAD = 1000  # records after an invalid one that are searched for a valid one
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
SKIP = " (set download.on_invalid: skip to skip such records)"
CHOOSE = " (set download.files to choose other files)"
# A record's number, and the record or why it is invalid.
Record = tuple[int, Any]


def texts(
    records: Iterable[Record], name: str, unit: str, layout: Layout, findings: Findings
) -> Iterator[tuple[str, bool]]:
    """Yield the text of each record as a document.

    Args:
        unit: What the records' numbers count: lines, rows.

    Raises:
        ValueError: A record has no text, and `on_invalid` is "error".
    """
    field, replace, good = layout.field, layout.errors == "replace", False
    records = iter(records)
    for number, record in records:
        try:
            text = _text(record, field)
            if not _is_well_formed(text):
                text = _well_formed(text, name, replace, findings)
        except Invalid as reason:
            where = f"{name}, {unit} {number:,}: {reason}"
            if layout.on_invalid == "error":
                good = good or _is_any_valid(islice(records, AHEAD), field)
                raise ValueError(where + (SKIP if good else CHOOSE)) from None
            findings.skip(where)
            continue
        good = True
        yield line_feeds(text), True


def _text(record: Any, field: str) -> str:
    if isinstance(record, Invalid):
        raise record
    return record if isinstance(record, str) else text_of(record, field)


def _is_any_valid(records: Iterable[Record], field: str) -> bool:
    """Return whether skipping records helps; in a file of another structure all are invalid."""
    try:
        for _, record in records:
            with suppress(Invalid):
                _text(record, field)
                return True
    except ValueError:  # the rest is unreadable
        pass
    return False


def _is_well_formed(text: str) -> bool:
    """Return whether UTF-8 can encode a text; JSON can spell half of a surrogate pair, and NULs."""
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _well_formed(text: str, name: str, replace: bool, findings: Findings) -> str:
    if replace:
        text, count = _NOT_TEXT.subn("\ufffd", text)
        findings.replace(name, count)
        return text
    found = _NOT_TEXT.search(text)
    assert found is not None
    if found[0] == "\0":
        raise Invalid("contains a NUL, which is not text")
    if "\udc80" <= found[0] <= "\udcff":
        raise Invalid("contains bytes of another encoding, or half of a surrogate pair")
    raise Invalid("contains half of a surrogate pair, which is not text")


def lines_of(text: Iterable[str], name: str) -> Iterator[str]:
    """Yield the lines of a text that comes in chunks, without line endings."""
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
        if size > LONGEST:
            raise ValueError(
                f"{name} has a line of more than {LONGEST >> 20} MB; set download.format: text "
                "if it does not contain records"
            )
    yield "".join(held)


# ----- CSV and TSV


def csv_records(text: Iterable[str], name: str, delimiters: str, field: str) -> Iterator[Record]:
    """Yield the column's text of each row after the header.

    Args:
        delimiters: Candidates; the first one that makes the field a column of the header is used.

    Raises:
        ValueError: The column is missing, or a quoted field has no end.
    """
    csv.field_size_limit(LONGEST)
    lines = (f"{line}\n" for line in lines_of(text, name))
    begin = []
    for line in lines:
        begin.append(line)
        if line.strip():
            break
    delimiter = _delimiter(begin[-1], delimiters, field)
    rows = csv.reader(chain(begin, lines), delimiter=delimiter, strict=True)
    header: list[str] = []
    column = 0
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            if not header or "unexpected end" in str(error) or "field limit" in str(error):
                raise ValueError(
                    f"{name}, line {number:,}: is not CSV: {error}; a closing quote may be missing"
                ) from None
            yield number, Invalid(f"is not CSV: {error}")
            continue
        if row is None:
            return
        if not any(map(str.strip, row)):
            continue
        if delimiters == "\t" and rows.line_num > number and any("\t" in cell for cell in row):
            raise ValueError(  # many TSV files use the quote as an ordinary character
                f"{name}, line {number:,}: the text between a quote in it and the next quote has "
                "several lines with tabs; if it is one field, set download.format: csv, otherwise "
                "remove the quote"
            )
        if not header:
            header, column = row, _column(row, field, name)
        elif len(row) != len(header):
            yield number, Invalid(f"has {len(row)} field(s), but the header has {len(header)}")
        else:
            yield number, row[column]


def _delimiter(header: str, delimiters: str, field: str) -> str:
    for delimiter in delimiters:
        try:
            if field in next(csv.reader([header], delimiter=delimiter)):
                return delimiter
        except csv.Error:
            continue
    return delimiters[0]


def _column(header: list[str], field: str, name: str) -> int:
    if (count := header.count(field)) != 1:
        raise ValueError(no_column(header, field, name, count))
    return header.index(field)


def no_column(names: list[str], field: str, name: str, count: int) -> str:
    """Return the error for a table in which no column, or more than one, has the name."""
    if count:
        return f"{name}: has {count} columns {field!r}; rename all of them except the one to read"
    return (
        f"{name}: has no column {field!r}, but {listed(names)}; "
        "set download.field to the one to read"
    )
