"""The text of a record: one of its fields, or a nested one."""

from collections.abc import Callable, Iterable
from typing import Any


class Invalid(Exception):
    """A record without a text. The message follows the name of the file and the record."""


def text_of(record: Any, field: str, decode: Callable[[bytes], str] | None = None) -> str:
    """The text at a field of a record.

    Args:
        field: a key; `a.b` is a key of a nested object, `a[].b` one of each object of a list. A
            literal key with that spelling is used first. The texts of a list are joined by a blank
            line.
        decode: converts bytes to text; None: bytes are not text.

    Raises:
        Invalid: there is none.
    """
    if isinstance(record, dict) and isinstance(text := record.get(field), str):
        return text  # as a rule
    value = _value(record, field)
    texts = value if isinstance(value, list) else [value]
    return "\n\n".join(_text(text, value, field, decode) for text in texts)


def count_of(record: Any, field: str) -> int:
    """How many texts, or things in their place, are at a field of a record."""
    try:
        value = _value(record, field)
    except Invalid:
        return 0
    return len(value) if isinstance(value, list) else 1


def list_at(record: dict[str, Any], path: str, where: str) -> list[Any]:
    """The list at a path (`data`, `data[].paragraphs`) in a record.

    Raises:
        ValueError: there is none; begins with `where`.
    """
    try:
        value = _at(record, path.split("."), "")
    except Invalid as reason:
        said = str(reason).removesuffix("; download.field says which to read")
        raise ValueError(f"{where}download.records = {path!r}: {said}") from None
    if not isinstance(value, list):
        raise ValueError(f"{where}download.records = {path!r}: is {kind(value)}, not a list")
    return value


def _value(record: Any, field: str) -> Any:
    """The value at a field of a record; of a list's elements, why one has none in its place."""
    if not isinstance(record, dict):
        raise Invalid(f"is {kind(record)}, not a JSON object")
    if isinstance(text := record.get(field), str):
        return text
    return _at(record, field.split("."), "")


def _text(text: Any, value: Any, field: str, decode: Callable[[bytes], str] | None) -> str:
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
        f", with {listed(text)}; {field}[] and a key reads one of them"
        if isinstance(text, dict)
        else ""
    )
    raise Invalid(f"its {field!r} holds {kind(text)}{inside}, not text")


def _at(value: Any, keys: list[str], path: str) -> Any:
    """The value at a path; a flat list if the path leads through a list."""
    if not keys:
        return value
    if not isinstance(value, dict):
        hint = f"; {path}[] reads each of its elements" if isinstance(value, list) else ""
        raise Invalid(f"its {path!r} is {kind(value)}, not an object{hint}")
    for count in range(len(keys), 0, -1):  # a key may have a dot in it
        key = ".".join(keys[:count])
        if key in value:
            return _at(value[key], keys[count:], f"{path}.{key}" if path else key)
        bare = key.removesuffix("[]")
        if bare != key and bare in value:
            inside = f"{path}.{key}" if path else key
            return _each(value[bare], keys[count:], inside)
    missing = keys[0].removesuffix("[]")
    where = f"its {path!r} has" if path else "has"
    raise Invalid(f"{where} no {missing!r}, but {listed(value)}; download.field says which to read")


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
    """The first ten names, each at most 40 characters long, for an error message."""
    shown = [repr(name if len(str(name)) <= 40 else f"{str(name)[:37]}...") for name in names]
    return ", ".join(shown[:10]) or "nothing"


def kind(value: object) -> str:
    """What a value of JSON is, in words."""
    kinds = {
        dict: "an object", list: "a list", str: "text", bool: "true or false", bytes: "bytes",
        int: "a number", float: "a number",
    }  # fmt: skip
    return "null" if value is None else kinds.get(type(value), f"a {type(value).__name__}")
