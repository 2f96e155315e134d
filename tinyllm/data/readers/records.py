"""Get the text of each record of a file from one of its fields, nested ones included."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from tinyllm.data.readers.decoding import line_feeds
from tinyllm.data.readers.findings import Findings
from tinyllm.data.readers.layout import Layout

LONGEST = 1 << 28  # characters of a record, which memory holds at once
AHEAD = 1000  # records after an invalid one that are searched for a valid one
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
SKIP = " (set download.on_invalid: skip to skip such records)"
CHOOSE = " (set download.files to choose other files)"
# A record's number, and the record or why it is invalid.
Record = tuple[int, Any]


class Invalid(Exception):
    """A record without a text. The message follows the name of the file and the record."""


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


# ----- the field of a record


def text_of(record: Any, field: str, decode: Callable[[bytes], str] | None = None) -> str:
    """Return the text at a field of a record.

    Args:
        field: A key; `a.b` is a key of a nested object, `a[].b` a key of each object of a list. A
            literal key with that spelling has precedence. Texts of a list are joined by a blank
            line.
        decode: Converts bytes to text; None: bytes are not text.

    Raises:
        Invalid: The record has no text there.
    """
    if isinstance(record, dict) and isinstance(text := record.get(field), str):
        return text  # the usual case
    value = _value(record, field)
    texts = value if isinstance(value, list) else [value]
    return "\n\n".join(_as_text(text, value, field, decode) for text in texts)


def count_of(record: Any, field: str) -> int:
    """Return the number of texts, or of values in their place, at a field of a record."""
    try:
        value = _value(record, field)
    except Invalid:
        return 0
    return len(value) if isinstance(value, list) else 1


def list_at(record: dict[str, Any], path: str, where: str) -> list[Any]:
    """Return the list at a path (`data`, `data[].paragraphs`) in a record.

    Raises:
        ValueError: There is no list; the message begins with `where`.
    """
    try:
        value = _at(record, path.split("."), "")
    except Invalid as reason:
        said = str(reason).removesuffix("; set download.field to the one to read")
        raise ValueError(f"{where}download.records = {path!r}: {said}") from None
    if not isinstance(value, list):
        raise ValueError(f"{where}download.records = {path!r}: is {kind(value)}, not a list")
    return value


def _value(record: Any, field: str) -> Any:
    """Return the value at a field; for elements of a list without one, the reason instead."""
    if not isinstance(record, dict):
        raise Invalid(f"is {kind(record)}, not a JSON object")
    if isinstance(text := record.get(field), str):
        return text
    return _at(record, field.split("."), "")


def _as_text(text: Any, value: Any, field: str, decode: Callable[[bytes], str] | None) -> str:
    if isinstance(text, Invalid):
        raise text
    if isinstance(text, bytes) and decode is not None:
        return decode(text)
    if isinstance(text, str):
        return text
    if value is text:
        inside = f", with {listed(text)}" if isinstance(text, dict) else ""
        raise Invalid(f"its {field!r} is {kind(text)}{inside}, not text")
    inside = (
        f", with {listed(text)}; to read one of them, write {field}[] and its key"
        if isinstance(text, dict)
        else ""
    )
    raise Invalid(f"its {field!r} contains {kind(text)}{inside}, not text")


def _at(value: Any, keys: list[str], path: str) -> Any:
    """Return the value at a path; a flat list if the path leads through a list."""
    if not keys:
        return value
    if not isinstance(value, dict):
        hint = f"; write {path}[] to read each of its elements" if isinstance(value, list) else ""
        raise Invalid(f"its {path!r} is {kind(value)}, not an object{hint}")
    for count in range(len(keys), 0, -1):  # a key may contain a dot
        key = ".".join(keys[:count])
        if key in value:
            return _at(value[key], keys[count:], f"{path}.{key}" if path else key)
        bare = key.removesuffix("[]")
        if bare != key and bare in value:
            inside = f"{path}.{key}" if path else key
            return _each(value[bare], keys[count:], inside)
    missing = keys[0].removesuffix("[]")
    where = f"its {path!r} has" if path else "has"
    raise Invalid(
        f"{where} no {missing!r}, but {listed(value)}; set download.field to the one to read"
    )


def _each(elements: Any, keys: list[str], path: str) -> list[Any]:
    if not isinstance(elements, list):
        raise Invalid(f"its {path.removesuffix('[]')!r} is {kind(elements)}, not a list")
    found = []
    for element in elements:
        try:
            value = _at(element, keys, path)
        except Invalid as reason:
            value = reason
        found += value if isinstance(value, list) else [value]
    return found


def listed(names: Iterable[Any]) -> str:
    """Return the first ten names, each at most 40 characters long, for an error message."""
    shown = [repr(name if len(str(name)) <= 40 else f"{str(name)[:37]}...") for name in names]
    return ", ".join(shown[:10]) or "nothing"


def kind(value: object) -> str:
    """Describe a JSON value in words."""
    kinds = {
        dict: "an object", list: "a list", str: "text", bool: "true or false", bytes: "bytes",
        int: "a number", float: "a number",
    }  # fmt: skip
    return "null" if value is None else kinds.get(type(value), f"a {type(value).__name__}")


def no_column(names: list[str], field: str, name: str, count: int) -> str:
    """Return the error for a table in which no column, or more than one, has the name."""
    if count:
        return f"{name}: has {count} columns {field!r}; rename all of them except the one to read"
    return (
        f"{name}: has no column {field!r}, but {listed(names)}; "
        "set download.field to the one to read"
    )
