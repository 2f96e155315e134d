"""Which split a document belongs to: the one answer that every stage uses.

A document's split follows from its own content alone, so that adding documents moves none, and
documents that differ only in case, white space or digits fall together. (Near-duplicates follow
the first of their group, and a text that is one single document, like a book, is cut by position:
tinyllm/data/tokenize/survey.py.)
"""

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # a worker process starts in two thirds of the time without pydantic
    from tinyllm.settings.split import Split

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)

_ASCII = bytes(range(128))
_FOLDED = bytearray(range(256))  # ASCII's white space, letters and digits, as the text's are folded
_FOLDED[0x09:0x0E], _FOLDED[0x1C:0x20] = b" " * 5, b" " * 4
_FOLDED[ord("0") : ord("9") + 1] = b"0" * 10
_FOLDED[ord("A") : ord("Z") + 1] = _FOLDED[ord("a") : ord("z") + 1]
_SPACE_OR_DIGIT = re.compile(r"[\s\d]")


def fold(text: str) -> bytes:
    """A text's normalised content in UTF-8: no case, words one space apart, each digit a 0.

    Raises:
        UnicodeEncodeError: it holds half of a surrogate pair, which no UTF-8 can.
    """
    content = text.encode()
    if not text.isascii():
        others = content.translate(None, _ASCII).decode()
        if others != others.casefold() or _SPACE_OR_DIGIT.search(others):
            return re.sub(r"\d", "0", " ".join(text.casefold().split())).encode()
    # What is left to fold is ASCII: in whole bytes, in a fifth of the time.
    content = content.translate(_FOLDED)
    while b"  " in content:
        content = content.replace(b"  ", b" ")
    return content.strip(b" ")


class ContentHash:
    """64-bit hash of a text's normalised content, of which it may be given one part at a time."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=8)
        self._begun = self._space = False

    def update(self, text: str) -> bytes:
        """Add a part. Returns it folded."""
        folded = fold(text)
        if folded:
            if self._begun and (self._space or text[0].isspace()):
                self._digest.update(b" ")
            self._digest.update(folded)
        self._begun = self._begun or bool(folded)
        self._space = text[-1:].isspace() or (self._space and not folded)
        return folded

    @property
    def value(self) -> int:
        """The hash of all parts together."""
        return int.from_bytes(self._digest.digest(), "big")


def split_codes(hashes: npt.NDArray[np.uint64], settings: "Split") -> npt.NDArray[np.uint8]:
    """The splits, as indices into SPLITS, of documents of these content hashes (N,)."""
    positions = hashes / 2.0**64
    edges = [settings.test_fraction, settings.test_fraction + settings.validation_fraction]
    codes = np.array([SPLITS.index(split) for split in (TEST, VALIDATION, TRAIN)], dtype=np.uint8)
    return codes[np.searchsorted(edges, positions, side="right")]
