"""Long documents in pieces: the ids are those of the whole."""

import os
import pty
import random
import re
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.helpers import AWKWARD, random_text
from tests.tokens.test_tokenizer import PATTERNS, cutting
from tinyllm.documents.pieces import Piece
from tinyllm.encoding.pieces import cut_safely, shown
from tinyllm.tokens.tokenizer import Tokenizer

SIZE, LONGEST = 60, 100_000
WHITE = [" ", "  ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\u3000", "\x85", "\x1c"]
KINDS = ["a", "Bc", "é", "日本", "1", "23", ".", "/", "-_", "'s", "'", "\u0301", "_", "😀"]
KINDS += [" ", " ", " ", *WHITE]


def texts(count: int) -> Iterator[str]:
    """Text of every kind of character beside every other, and white space in runs."""
    chance = random.Random(1)
    for _ in range(count):
        yield "".join(chance.choices(KINDS, k=600))
        yield "".join(random_text(chance) for _ in range(20))
    yield from AWKWARD


@pytest.mark.parametrize("name", PATTERNS)
def test_the_ids_of_the_pieces_are_those_of_the_whole(tokenizer: Tokenizer, name: str) -> None:
    whole = cutting(tokenizer, PATTERNS[name])
    count = 0
    for text in texts(150):
        pieces = [piece.text for piece in cut_safely([Piece(text, True)], SIZE, LONGEST)]
        count += len(pieces)
        assert "".join(pieces) == text
        found = [token for piece in pieces for token in whole.encode_ordinary(piece)]
        assert found == whole.encode_ordinary(text), pieces
    assert count > 2500  # it did cut


def test_where_it_is_cut_does_not_depend_on_the_pieces_before() -> None:
    chance = random.Random(2)
    for text in filter(None, texts(60)):
        whole = list(cut_safely([Piece(text, True)] * 2, SIZE, 500))
        parts = []
        for _ in range(2):
            ends = sorted({*chance.choices(range(1, len(text) + 1), k=5), len(text)})
            starts = [0, *ends[:-1]]
            parts += [Piece(text[a:b], b == len(text)) for a, b in zip(starts, ends, strict=True)]
        assert list(cut_safely(parts, SIZE, 500)) == whole


def test_documents_end_where_they_did() -> None:
    documents = ["short", "long " * 1000, "x" * 1000, ""]
    pieces = list(cut_safely((Piece(text, True) for text in documents), SIZE, 100))
    assert max(len(piece.text) for piece in pieces) <= 100
    found = [""]
    for piece in pieces:
        found[-1] += piece.text
        if piece.last:
            found.append("")
    assert found == [*documents, ""]


def test_a_terminal_shows_how_much_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [Piece("é" * 300, False), Piece("a" * 400, True)]

    def slowly() -> Iterator[Piece]:
        for piece in pieces:
            time.sleep(0.2)  # the bar is drawn anew ten times a second
            yield piece

    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert list(shown(slowly, "encode", 1000)()) == pieces
    data = b""
    with os.fdopen(leader, "rb", buffering=0) as screen, suppress(OSError):  # its end, on Linux
        while some := screen.read(10_000):
            data += some
    drawn = data.decode()
    assert re.search(r"encode: +60%.* 600/1\.00k .*encode: 100%.* 1\.00k/1\.00k ", drawn, re.S)
