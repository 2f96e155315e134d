"""Cut documents of any length into pieces that fit in memory and can be encoded separately.

An encoding first splits text by a regular expression and then merges bytes inside each part. At a
position where the expression splits regardless of the text around it, both sides can be encoded
separately with the same ids. In all expressions of tiktoken, and in ours, these are

- between a character that is not white space and a space (no part continues after a space; it can
  only begin with one), and
- after a single line feed between such a character and a letter or digit (a part of signs may end
  with a line feed, as in ".\\n", but none continues with a letter).

Scripts without spaces between words, and long lines of data, have few such positions. Only if none
is near, text is cut at other positions that are equally safe:

- between a character that is not white space and white space other than a line end,
- after a single line feed before a single such space (before two, the expressions differ),
- between a letter or digit and a sign other than an apostrophe (which may belong to the letters),
- between a letter and an ASCII digit.

tests/data/tokenize/test_batches.py compares both ways on random texts, at every such position.
"""

import re
import string
import sys
from collections.abc import Callable, Iterable, Iterator

from tinyllm.data.readers.documents import Piece

PIECE = 1 << 17  # characters; tiktoken is fastest with 64 to 256 KB
LONGEST = 1 << 24  # characters without a safe position, after which text is cut anywhere
# Cut before the space, or after the line feed. These come first, since searching for one of two
# characters takes a fortieth of the time of examining every character.
_SAFE = re.compile(r"[ \n](?:(?<=\S )|(?<=\S\n)(?=\w))")
# White space for both Python and tiktoken, without line ends.
_SPACES = "\t\v\f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SIGNS = (  # ASCII, CJK (also full width), quotation, Arabic and Devanagari
    re.escape(string.punctuation.replace("'", ""))
    + "\u3001-\u3003\u3008-\u3011\u3014-\u301f\u30fb\uff01-\uff06\uff08-\uff0f\uff1a-\uff20"
    "\xb7\u2014\u201c\u201d\u2026\u060c\u061b\u061f\u0964\u0965"
)
_ALSO_SAFE = re.compile(
    rf"(?<=\S)(?=[{_SPACES}])|(?<=\S\n)(?=[{_SPACES}]\S)|(?<=[^\W_])(?=[{_SIGNS}])"
    "|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)
_NEAR = 4096  # characters before the end of a piece that are searched first


Corpus = Callable[[], Iterable[Piece]]  # reopens the corpus at each call


def shown(corpus: Corpus, purpose: str, size: int) -> Corpus:
    """Return the same corpus; in a terminal, a bar shows how much of it was read.

    Args:
        purpose: Label beside the bar.
        size: Size of its text in bytes of UTF-8.
    """
    if not sys.stderr.isatty():
        return corpus

    def read() -> Iterator[Piece]:
        from tqdm import tqdm  # imported here: worker processes do not need it

        # miniters: documents differ in size, so the bar is redrawn by time only.
        with tqdm(
            desc=purpose, total=size, unit="B", unit_scale=True, miniters=1, leave=False
        ) as bar:
            for piece in corpus():
                yield piece
                text = piece.text
                bar.update(len(text) if text.isascii() else len(text.encode()))

    return read


def cut_safely(
    pieces: Iterable[Piece], size: int = PIECE, longest: int = LONGEST
) -> Iterator[Piece]:
    """Yield the same documents in pieces of about `size` characters that can be encoded separately.

    The cuts do not depend on the pieces that the text arrives in. A document up to `size` is one
    piece. Text without a safe position gives longer pieces, up to `longest`.
    """
    waiting, searched = "", 0  # searched: characters of `waiting` without a safe position
    for piece in pieces:
        text, last = piece
        if last and not waiting and len(text) <= size:  # nearly all documents
            yield piece
            continue
        text = waiting + text if waiting else text
        start = 0
        while (end := _next_cut(text, start, searched, size, longest)) is not None:
            yield Piece(text[start:end], False)
            start, searched = end, 0
        if last:
            yield Piece(text[start:], True)
        waiting = "" if last else text[start:]
        # Whether a position is safe depends on the two characters after it, not read yet.
        searched = 0 if last else max(len(waiting) - 2, 0)


def _next_cut(text: str, start: int, searched: int, size: int, longest: int) -> int | None:
    """Return where the piece that begins at `start` ends; None: not within this text."""
    if len(text) - start <= size:
        return None
    if searched <= size:
        for safe in (_SAFE, _ALSO_SAFE):
            for reach in (_NEAR, size):
                first = max(start + 2, start + size - reach)  # depends on the two characters before
                places = list(_places(safe, text, first, start + size))
                if places:
                    return places[-1]
    first = start + max(size + 1, searched)
    found = (_places(safe, text, first, start + longest) for safe in (_SAFE, _ALSO_SAFE))
    nearest = min(next(places, len(text)) for places in found)
    if nearest < len(text):
        return nearest
    ends_here = len(text) - start <= longest
    return None if ends_here else start + longest


def _places(safe: re.Pattern[str], text: str, first: int, last: int) -> Iterator[int]:
    """Yield the positions from `first` to `last` at which a text can be cut."""
    # A match begins one character before the position, and ends two after it.
    for match in safe.finditer(text, first - 1, last + 2):
        position = match.end() if match[0] == "\n" else match.start()
        if first <= position <= last:
            yield position
