"""Cut text that arrives in chunks into documents, and long documents into pieces.

Memory holds a chunk and a piece at most. The cuts depend on the text alone, not on its chunks.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

LONGEST = 1 << 20  # characters in a piece: at most 4 MB
LINE_HEAD = 1000  # characters of a line in which `document_start` is searched

# Text, and whether a document ends after it.
Part = tuple[str, bool]


class Piece(NamedTuple):
    """A document, or a part of a long one; a document is all its pieces joined.

    Attributes:
        text: At most LONGEST characters; ends after a line end, unless it is the last piece or
            contains no line end.
        last: Whether the document ends here.
    """

    text: str
    last: bool


def whole(chunks: Iterable[str]) -> Iterator[Part]:
    """Make one document of all chunks."""
    for chunk in chunks:
        yield chunk, False
    yield "", True


def separated(
    chunks: Iterable[str], separator: str, cut: Callable[[int], None] = lambda _: None
) -> Iterator[Part]:
    """End a document at each separator, which is dropped. `cut` receives their number."""
    held, overlap = "", len(separator) - 1
    for chunk in chunks:
        *documents, rest = (held + chunk).split(separator)
        cut(len(documents))
        for document in documents:
            yield document, True
        safe = max(len(rest) - overlap, 0)  # no separator begins before this
        yield rest[:safe], False
        held = rest[safe:]
    yield held, True


def begun(
    chunks: Iterable[str], start: str, cut: Callable[[int], None] = lambda _: None
) -> Iterator[Part]:
    """Begin a document at each line whose first characters match a regular expression.

    Calls `cut` for each such line.
    """
    begins = re.compile(start).match
    held, looked = "", False  # looked: the first line of `held` was checked
    for chunk in chunks:
        text = held + chunk
        given = at = 0
        while at < len(text):
            end = text.find("\n", at)
            if not looked:
                if end < 0 and len(text) - at < LINE_HEAD:
                    break
                if begins(text[at : at + LINE_HEAD].split("\n", 1)[0]):
                    cut(1)
                    yield text[given:at], True
                    given = at
            looked = end < 0
            at = len(text) if looked else end + 1
        yield text[given:at], False
        held = text[at:]
    if held and begins(held):
        cut(1)
        yield "", True
    yield held, True


def pieces(parts: Iterable[Part]) -> Iterator[Piece]:
    """Yield documents in pieces; skips documents of white space only.

    If a document begins with more white space than a piece holds, that white space is skipped too.
    """
    held: list[str] = []
    size, begun = 0, False
    for text, ends in parts:
        if ends and not held and len(text) <= LONGEST:  # the usual case
            if text and not text.isspace():
                yield Piece(text, True)
            continue
        if text:
            held.append(text)
            size += len(text)
        if size <= LONGEST and not ends:
            continue
        text, at = "".join(held), 0
        while len(text) - at > LONGEST:
            piece = text[at : at + LONGEST]
            line_end = piece.rfind("\n") + 1
            if line_end and (begun or not piece[:line_end].isspace()):
                piece = piece[:line_end]
            at += len(piece)
            begun = begun or not piece.isspace()
            if begun:
                yield Piece(piece, False)
        held = [text[at:]]
        size = len(held[0])
        if ends:
            if begun or not held[0].isspace():
                yield Piece(held[0], True)
            held, size, begun = [], 0, False
