"""Documents in pieces that fit in memory, however long they are, and that can be encoded alone.

An encoding first cuts text by a regular expression and then merges bytes within each part. Where
the expression always cuts, whatever stands before and after, the text on both sides can be encoded
apart with the same ids. In all of tiktoken's expressions, and ours, that is

- between a character that is no white space and a space (no part goes on over a space: it may only
  begin with one), and
- after a single line feed between such a character and a letter or digit (a line feed may end a
  part of signs, as in ".\\n", but none goes on into a letter).

tests/encoding/test_pieces.py compares both ways over random texts.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator

from tinyllm.documents.pieces import Piece

PIECE = 1 << 17  # characters; tiktoken is at its fastest with 64 to 256 KB
LONGEST = 1 << 24  # characters without a safe place, after which text is cut anywhere
_SAFE = re.compile(r"(?<=\S)(?= )|(?<=\S\n)(?=\w)")
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
    waiting = ""
    for piece in pieces:
        text, last = piece
        if last and not waiting and len(text) <= size:  # as nearly all are
            yield piece
            continue
        text = waiting + text if waiting else text
        start = 0
        while (end := _next_cut(text, start, size, longest)) is not None:
            yield Piece(text[start:end], False)
            start = end
        if last:
            yield Piece(text[start:], True)
        waiting = "" if last else text[start:]


def _next_cut(text: str, start: int, size: int, longest: int) -> int | None:
    """Where the piece that begins at `start` ends; None: not within this text."""
    if len(text) - start <= size:
        return None
    for reach in (_NEAR, size - 1):
        first = max(start + 1, start + size - reach)
        # One character more than may be cut at, since a safe place depends on what follows it.
        found = [match.start() for match in _SAFE.finditer(text, first, start + size + 1)]
        if found and found[-1] <= start + size:
            return found[-1]
    match = _SAFE.search(text, start + size + 1, start + longest + 1)
    if match is not None:
        return match.start()
    ends_here = len(text) - start <= longest
    return None if ends_here else start + longest
