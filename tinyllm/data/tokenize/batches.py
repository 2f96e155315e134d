"""Documents in pieces that fit in memory, however long they are, and that can be encoded alone.

An encoding first cuts text by a regular expression and then merges bytes within each part. Where
the expression always cuts, whatever stands before and after, the text on both sides can be encoded
apart with the same ids. In all of tiktoken's expressions, and ours, that is

- between a character that is no white space and a space (no part goes on over a space: it may only
  begin with one), and
- after a single line feed between such a character and a letter or digit (a line feed may end a
  part of signs, as in ".\\n", but none goes on into a letter).

Scripts that leave no spaces between words, and long lines of data, have few such places. Only where
none is near, text is cut at others that are as safe:

- between a character that is no white space and white space of any kind but a line end,
- after a single line feed before one such space and no more (before two, the expressions differ),
- between a letter or digit and a sign that is no apostrophe (which may belong to the letters), and
- between a letter and a digit of ASCII.

tests/data/tokenize/test_pieces.py compares both ways over random texts, at every such place.
"""

import re
import string
import sys
from collections.abc import Callable, Iterable, Iterator

from tinyllm.data.readers.documents import Piece

PIECE = 1 << 17  # characters; tiktoken is at its fastest with 64 to 256 KB
LONGEST = 1 << 24  # characters without a safe place, after which text is cut anywhere
# It is cut before the space or after the line feed. They come first, since looking for one of two
# characters takes a fortieth of the time of looking around every character.
_SAFE = re.compile(r"[ \n](?:(?<=\S )|(?<=\S\n)(?=\w))")
# What Python and tiktoken both take for white space, without line ends.
_SPACES = "\t\v\f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SIGNS = (  # of ASCII, CJK (also full width), quotation, Arabic and Devanagari
    re.escape(string.punctuation.replace("'", ""))
    + "\u3001-\u3003\u3008-\u3011\u3014-\u301f\u30fb\uff01-\uff06\uff08-\uff0f\uff1a-\uff20"
    "\xb7\u2014\u201c\u201d\u2026\u060c\u061b\u061f\u0964\u0965"
)
_ALSO_SAFE = re.compile(
    rf"(?<=\S)(?=[{_SPACES}])|(?<=\S\n)(?=[{_SPACES}]\S)|(?<=[^\W_])(?=[{_SIGNS}])"
    "|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)
_NEAR = 4096  # characters before the end of a piece that are searched first


Corpus = Callable[[], Iterable[Piece]]  # opens the corpus anew at each call


def shown(corpus: Corpus, purpose: str, size: int) -> Corpus:
    """The same corpus, but in a terminal a bar shows how much of it was read.

    Args:
        purpose: of reading it, which is told beside the bar.
        size: bytes of its text, UTF-8.
    """
    if not sys.stderr.isatty():
        return corpus

    def read() -> Iterator[Piece]:
        from tqdm import tqdm  # here: worker processes do without

        # miniters: documents differ in size, so that only the time tells when to draw anew.
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
    """The same documents in pieces of about `size` characters, each to be encoded alone.

    Where they are cut does not depend on the pieces that they come in. A document up to `size`
    stays whole. Text without a safe place comes in longer pieces, up to `longest`.
    """
    waiting, searched = "", 0  # searched: characters of what waits that hold no safe place
    for piece in pieces:
        text, last = piece
        if last and not waiting and len(text) <= size:  # as nearly all are
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
        # A place depends on the two characters after it, which are still to come.
        searched = 0 if last else max(len(waiting) - 2, 0)


def _next_cut(text: str, start: int, searched: int, size: int, longest: int) -> int | None:
    """Where the piece that begins at `start` ends; None: not within this text."""
    if len(text) - start <= size:
        return None
    if searched <= size:
        for safe in (_SAFE, _ALSO_SAFE):
            for reach in (_NEAR, size):
                first = max(start + 2, start + size - reach)  # it depends on two characters before
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
    """The places from `first` to `last` at which a text may be cut."""
    # What is looked for begins a character before the place, and ends two after it.
    for match in safe.finditer(text, first - 1, last + 2):
        place = match.end() if match[0] == "\n" else match.start()
        if first <= place <= last:
            yield place
