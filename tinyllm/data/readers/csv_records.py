"""Parse the records of CSV and TSV."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain

from tinyllm.data.readers.records import LONGEST, Invalid, Record, lines_of, no_column


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
