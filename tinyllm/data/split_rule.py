"""Assign documents to splits; every stage uses this rule.

The split of a document depends on its content alone: adding documents moves no other document, and
documents that differ only in case, white space or digits get the same split. There are two
exceptions, in tinyllm/data/tokenize/survey.py: near-duplicates get the split of the first of their
group, and a corpus of a single document, like a book, is cut by position.
"""

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # without pydantic, a worker process starts in two thirds of the time
    from tinyllm.settings.split import Split

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)

_ASCII = bytes(range(128))
_FOLDED = bytearray(range(256))  # folds ASCII white space, letters and digits
_FOLDED[0x09:0x0E], _FOLDED[0x1C:0x20] = b" " * 5, b" " * 4
_FOLDED[ord("0") : ord("9") + 1] = b"0" * 10
_FOLDED[ord("A") : ord("Z") + 1] = _FOLDED[ord("a") : ord("z") + 1]
_SPACE_OR_DIGIT = re.compile(r"[\s\d]")


def fold(text: str) -> bytes:
    """Normalise a text to UTF-8: lower case, words one space apart, each digit a 0.

    Raises:
        UnicodeEncodeError: The text contains half of a surrogate pair, which UTF-8 can't encode.
    """
    content = text.encode()
    if not text.isascii():
        others = content.translate(None, _ASCII).decode()
        if others != others.casefold() or _SPACE_OR_DIGIT.search(others):
            return re.sub(r"\d", "0", " ".join(text.casefold().split())).encode()
    # The rest is ASCII: folding bytes takes a fifth of the time.
    content = content.translate(_FOLDED)
    while b"  " in content:
        content = content.replace(b"  ", b" ")
    return content.strip(b" ")


class ContentHash:
    """64-bit hash of a text's normalised content; the text may be given in parts."""

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
        """Return the hash of all parts together."""
        return int.from_bytes(self._digest.digest(), "big")


def split_codes(hashes: npt.NDArray[np.uint64], settings: "Split") -> npt.NDArray[np.uint8]:
    """Return the splits, as indices into SPLITS, of documents with these content hashes (N,)."""
    positions = hashes / 2.0**64
    edges = [settings.test_fraction, settings.test_fraction + settings.validation_fraction]
    codes = np.array([SPLITS.index(split) for split in (TEST, VALIDATION, TRAIN)], dtype=np.uint8)
    return codes[np.searchsorted(edges, positions, side="right")]
