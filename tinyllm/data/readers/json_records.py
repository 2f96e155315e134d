"""Parse the records of JSON Lines and JSON."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tinyllm.data.readers.findings import Findings
from tinyllm.data.readers.records import LONGEST, Invalid, Record, count_of, lines_of, list_at

_SPACE = re.compile(r"[ \t\n\r]*")

# ----- JSON Lines


def jsonl(text: Iterable[str], name: str) -> Iterator[Record]:
    """Yield each line that is not empty as a JSON value."""
    for number, line in enumerate(lines_of(text, name), start=1):
        if not line or line.isspace():
            continue
        record: Any
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            record = Invalid(f"is not JSON: {_reason(error)} at column {error.colno}")
        except (ValueError, RecursionError) as error:  # a number too long, or nesting too deep
            record = Invalid(f"can't be read as JSON: {error}")
        yield number, _no_text(record)


def _no_text(record: Any) -> Any:
    """Refuse a plain string as a record: a JSON file of strings is a list of names or the like."""
    return Invalid("is text, not a JSON object") if isinstance(record, str) else record


def _reason(error: json.JSONDecodeError) -> str:
    """Return the reason without the trailing "at" of some of Python's messages."""
    return re.sub(r"( starting)? at$", "", error.msg)


# ----- JSON


def json_records(
    text: Iterable[str], name: str, field: str, records: str | None, findings: Findings
) -> Iterator[Record]:
    """Yield each element of an array, or each object of a file of one or several objects.

    The standard library parses them one at a time. It reports half of a surrogate pair; yajl, used
    by ijson 3.6, replaces it by a question mark.

    Args:
        records: Path of the records in the file's only object; None: the object is the record.

    Raises:
        ValueError: The file is not JSON; the rest of it can't be read either.
    """
    window = _Window(text)
    number = 0
    try:
        if window.next() == "[":
            for number, value in enumerate(window.array(), start=1):
                yield number, value
            if window.next():
                raise json.JSONDecodeError("Data follow the array", window.text, window.at)
            return
        while window.next():
            value = window.value()
            number += 1
            if number == 1 and isinstance(value, dict) and not window.next():
                if records is not None:
                    yield from enumerate(list_at(value, records, f"{name}: "), start=1)
                    return
                findings.lone(name, count_of(value, field))
            yield number, _no_text(value)
    except json.JSONDecodeError as error:
        near = window.text[error.pos : error.pos + 20]
        cut = error.msg.startswith("Unterminated") or not near.strip()
        where = "; the file ends within it" if cut else f", before {near!r}"
        raise ValueError(
            f"{name}, record {number + 1:,}: is not JSON: {_reason(error)}{where}"
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
        """Read as much again as is buffered, at least a chunk. Returns whether there was any."""
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
        """Return the next character that is not white space; empty at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found is not None
            self.at = found.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        """Parse the value that begins here."""
        while True:
            try:
                value, end = self._decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.text) - 16
                if not cut or not self.more():
                    raise
                continue
            except ValueError as error:  # a number with more digits than Python converts
                raise json.JSONDecodeError(str(error), self.text, self.at) from None
            if end == len(self.text):  # a number may continue
                if self.more():
                    continue
                end = len(self.text)
            self.at = end
            return value

    def array(self) -> Iterator[Any]:
        """Yield the elements of the array that begins here."""
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
