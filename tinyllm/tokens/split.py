"""Which split a document belongs to: the one answer that every stage uses.

A document's split follows from its own content alone, so that adding documents moves none, and
documents that differ only in case, white space or digits fall together. A text that is one single
document, like a book, is cut by position instead.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tinyllm.common.params import Split

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class Part:
    """A document, or a piece of the only one, with the split that it belongs to."""

    split: str
    text: str


def content_hash(text: str) -> int:
    """64-bit hash of a text's normalised content: case, white space and digits folded."""
    folded = re.sub(r"\d", "0", " ".join(text.casefold().split()))
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest(), "big")


def split_of(text: str, settings: Split) -> str:
    """The split of one document among many."""
    position = content_hash(text) / 2**64
    if position < settings.test_fraction:
        return TEST
    if position < settings.test_fraction + settings.validation_fraction:
        return VALIDATION
    return TRAIN


def parts(documents: Iterable[str], settings: Split) -> Iterator[Part]:
    """Yield each document with its split; a single document is cut at line ends into three parts.

    Holds no more than two documents at a time.
    """
    stream = iter(documents)
    first = next(stream, None)
    if first is None:
        return
    second = next(stream, None)
    if second is None:
        yield from cut_by_position(first, settings)
        return
    yield Part(split_of(first, settings), first)
    yield Part(split_of(second, settings), second)
    for text in stream:
        yield Part(split_of(text, settings), text)


def cut_by_position(text: str, settings: Split) -> list[Part]:
    """Cut one text into training, validation and test parts, in that order, after line ends."""
    first = _line_end(text, 1 - settings.validation_fraction - settings.test_fraction)
    second = max(first, _line_end(text, 1 - settings.test_fraction))
    pieces = (text[:first], text[first:second], text[second:])
    return [Part(split, piece) for split, piece in zip(SPLITS, pieces, strict=True)]


def _line_end(text: str, share: float) -> int:
    """Where the line ends that is at `share` of the text; if it has no end, the place itself."""
    place = round(len(text) * share)
    return text.find("\n", place) + 1 or place
