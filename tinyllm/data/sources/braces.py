"""Expand braces in addresses, as bash does."""

import re
from collections.abc import Iterator
from itertools import islice

MOST = 100_000  # addresses
_NUMBERS = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.(-?\d+))?")


def expand(text: str) -> list[str]:
    r"""Expand `{a,b}`, `{000..099}`, `{1..9..2}` and `{a..f}`, also nested.

    A brace without a comma or a range stays; `\{`, `\}` and `\,` are the literal characters.

    Raises:
        ValueError: The text stands for more than MOST addresses.
    """
    found = list(islice(_expand(text), MOST + 1))
    if len(found) > MOST:
        raise ValueError(f"{text!r} stands for more than {MOST:,} addresses")
    return [re.sub(r"\\([{},\\])", r"\1", one) for one in found]


def _expand(text: str) -> Iterator[str]:
    start = 0
    while (opening := _find(text, "{", start)) is not None:
        closing = _find(text, "}", opening + 1)
        if closing is None:
            start = opening + 1
            continue
        choices = _choices(text[opening + 1 : closing])
        if choices is None:  # the brace stays; its content is expanded next
            start = opening + 1
            continue
        before = text[:opening]
        for choice in choices:
            for inner in _expand(choice):
                for rest in _expand(text[closing + 1 :]):
                    yield before + inner + rest
        return
    yield text


def _find(text: str, wanted: str, start: int) -> int | None:
    """Return the next unescaped position of a character outside nested braces."""
    depth, at = 0, start
    while at < len(text):
        sign = text[at]
        if depth == 0 and sign == wanted:
            return at
        depth += (sign == "{") - (sign == "}" and depth > 0)
        at += 2 if sign == "\\" else 1
    return None


def _choices(inner: str) -> Iterator[str] | None:
    """Return the alternatives inside braces; None if there are none."""
    if numbers := _NUMBERS.fullmatch(inner):
        first, last, step = numbers.groups()
        padded = any(re.match(r"-?0\d", number) for number in (first, last))
        width = max(len(first), len(last)) if padded else 0
        return (f"{n:0{width}d}" for n in _range(int(first), int(last), step))
    if letters := _LETTERS.fullmatch(inner):
        first, last, step = letters.groups()
        return (chr(n) for n in _range(ord(first), ord(last), step))
    parts, start = [], 0
    while (comma := _find(inner, ",", start)) is not None:
        parts.append(inner[start:comma])
        start = comma + 1
    return iter([*parts, inner[start:]]) if parts else None


def _range(first: int, last: int, step: str | None) -> range:
    size = abs(int(step or 1)) or 1
    return range(first, last + 1, size) if first <= last else range(first, last - 1, -size)
