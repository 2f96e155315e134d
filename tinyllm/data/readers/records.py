"""The text of each record of a file, and the records of CSV and TSV."""

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

LONGEST = 1 << 28  # characters of a record, which has to be in memory at once
AHEAD = 1000  # records after one that is not valid in which another that is is looked for
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
SKIP = " (set download.on_invalid: skip to skip such records)"
CHOOSE = " (set download.files to choose other files)"
# A record's number, and what it is, or why it is none.
Record = tuple[int, Any]


def texts(
    records: Iterable[Record], name: str, unit: str, layout: Layout, findings: Findings
) -> Iterator[tuple[str, bool]]:
    """The text of each record, as a document of its own.

    Args:
        unit: what the records' numbers count: lines, rows.

    Raises:
        ValueError: a record holds no text, and `on_invalid` is "error".
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
    """Whether it is of use to skip records; in a file of another structure none is left."""
    try:
        for _, record in records:
            with suppress(Invalid):
                _text(record, field)
                return True
    except ValueError:  # the rest can't be read
        pass
    return False


def _is_well_formed(text: str) -> bool:
    """JSON can spell half of a surrogate pair, which no encoding can write, and NULs."""
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
        raise Invalid("has a NUL, which is not text")
    if "\udc80" <= found[0] <= "\udcff":
        raise Invalid("has bytes of another encoding, or half of a surrogate pair")
    raise Invalid("has half of a surrogate pair, which is not text")


def lines_of(text: Iterable[str], name: str) -> Iterator[str]:
    """The lines of a text that comes in chunks, without their ends."""
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
                "if it does not hold records"
            )
    yield "".join(held)


# ----- CSV and TSV


def csv_records(text: Iterable[str], name: str, delimiters: str, field: str) -> Iterator[Record]:
    """The column's text of each row below the header.

    Args:
        delimiters: that which the header is written with is the first that makes the field of it.

    Raises:
        ValueError: there is no such column; a quoted field has no end.
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
                    f"{name}, line {number:,}: is not CSV: {error}; does a quote have no end?"
                ) from None
            yield number, Invalid(f"is not CSV: {error}")
            continue
        if row is None:
            return
        if not any(map(str.strip, row)):
            continue
        if delimiters == "\t" and rows.line_num > number and any("\t" in cell for cell in row):
            raise ValueError(  # in many files of TSV a quote is a character like others
                f"{name}, line {number:,}: from a quote in it to the next there are several lines "
                "with tabs; if that is one field, set download.format: csv, else remove the quote"
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
    """What to report of a table in which no column, or more than one, has a name."""
    if count:
        return f"{name}: has {count} columns {field!r}; rename all but the one to read"
    return (
        f"{name}: has no column {field!r}, but {listed(names)}; download.field says which to read"
    )
