"""The records of JSON Lines, JSON, CSV and TSV, and the text of each."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from tinyllm.documents.decoding import line_feeds
from tinyllm.documents.fields import Invalid, listed, text_of
from tinyllm.documents.findings import Findings
from tinyllm.documents.layout import Layout

LONGEST = 1 << 28  # characters of a record, which has to be in memory at once
_SPACE = re.compile(r"[ \t\n\r]*")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
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
    for number, record in records:
        try:
            if isinstance(record, Invalid):
                raise record
            text = record if isinstance(record, str) else text_of(record, field)
            if not _is_well_formed(text):
                text = _well_formed(text, name, replace, findings)
        except Invalid as reason:
            where = f"{name}, {unit} {number:,}: {reason}"
            if layout.on_invalid == "error":
                hint = "" if good else ", or download.files to choose other files"
                raise ValueError(
                    f"{where} (set download.on_invalid: skip to skip such records{hint})"
                ) from None
            findings.skip(where)
            continue
        good = True
        yield line_feeds(text), True


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


# ----- JSON Lines


def jsonl(text: Iterable[str], name: str) -> Iterator[Record]:
    """Each line that is not empty, as a value of JSON."""
    for number, line in enumerate(_lines(text, name), start=1):
        if not line or line.isspace():
            continue
        record: Any
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            record = Invalid(f"is not JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:  # numbers and nesting beyond all measure
            record = Invalid(f"is not JSON that can be read: {error}")
        if isinstance(record, str):
            record = Invalid("is text, not a JSON object")
        yield number, record


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
        if size > LONGEST:
            raise ValueError(
                f"{name} has a line of more than {LONGEST >> 20} MB; set download.format: text "
                "if it does not hold records"
            )
    yield "".join(held)


# ----- JSON


def json_records(text: Iterable[str], name: str) -> Iterator[Record]:
    """Each element of an array, or each object of a file that holds one or several.

    They are parsed one at a time with the standard library's parser, which finds half of a
    surrogate pair; yajl, behind ijson 3.6, makes a question mark of it.

    Raises:
        ValueError: it is not JSON: what follows the place can't be read either.
    """
    window = _Window(text)
    number = 0
    try:
        if window.next() == "[":
            for number, value in enumerate(window.array(), start=1):
                yield number, value
            if window.next():
                raise json.JSONDecodeError("Something follows the array", window.text, window.at)
            return
        while window.next():
            value = window.value()
            number += 1
            yield number, Invalid("is text, not a JSON object") if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        near = window.text[error.pos : error.pos + 20]
        raise ValueError(
            f"{name}, record {number + 1:,}: is not JSON: {error.msg}, before {near!r}"
        ) from None
    except (RecursionError, OverflowError) as error:
        raise ValueError(f"{name}, record {number + 1:,}: can't be read: {error}") from None


class _Window:
    """The part of a long JSON text that is being parsed."""

    def __init__(self, chunks: Iterable[str]) -> None:
        self._chunks = iter(chunks)
        self._decode = json.JSONDecoder().raw_decode
        self.text = ""
        self.at = 0

    def more(self) -> bool:
        """Read as much again as is held, at least a chunk. Returns whether there was any."""
        parts = [self.text[self.at :]]
        wanted, size = len(parts[0]), 0
        for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= wanted:
                break
        self.text, self.at = "".join(parts), 0
        if wanted > LONGEST:
            raise json.JSONDecodeError(f"More than {LONGEST >> 20} MB", self.text, 0)
        return size > 0

    def next(self) -> str:
        """The next character that is not white space; none at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found is not None
            self.at = found.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The value that begins here."""
        while True:
            try:
                value, end = self._decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.text) - 16
                if not cut or not self.more():
                    raise
                continue
            except ValueError as error:  # a number of more digits than Python takes
                raise json.JSONDecodeError(str(error), self.text, self.at) from None
            if end == len(self.text):  # a number may go on
                if self.more():
                    continue
                end = len(self.text)
            self.at = end
            return value

    def array(self) -> Iterator[Any]:
        """The elements of the array that begins here."""
        self.at += 1
        if self.next() == "]":
            self.at += 1
            return
        while True:
            self.next()
            yield self.value()
            if self.next() not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' delimiter", self.text, self.at)
            self.at += 1
            if self.text[self.at - 1] == "]":
                return


# ----- CSV and TSV


def csv_records(text: Iterable[str], name: str, delimiters: str, field: str) -> Iterator[Record]:
    """The column's text of each row below the header.

    Args:
        delimiters: that which the header is written with is the first that makes the field of it.

    Raises:
        ValueError: there is no such column; a quoted field has no end.
    """
    csv.field_size_limit(LONGEST)
    lines = (f"{line}\n" for line in _lines(text, name))
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
