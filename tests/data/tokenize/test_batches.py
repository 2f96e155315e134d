"""Encoding a long document in pieces gives the ids of the whole document."""

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
import tiktoken

from tests.data.test_tokenizer import PATTERNS, cutting
from tests.helpers import AWKWARD, random_text
from tinyllm.common.vocabulary import END_OF_TEXT
from tinyllm.data.readers.documents import Piece
from tinyllm.data.tokenize import batches
from tinyllm.data.tokenize.batches import _ALSO_SAFE, _SAFE, _places, cut_safely, shown
from tinyllm.data.tokenizer import PATTERN, Tokenizer

SIZE, LONGEST = 60, 100_000
WHITE = [" ", "  ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\u3000", "\x85", "\x1c"]
KINDS = ["a", "Bc", "é", "日本", "1", "23", ".", "/", "-_", "'s", "'", "\u0301", "_", "😀"]
KINDS += [" ", " ", " ", *WHITE]
UNSPACED = list("aBzé日本1٣½Ⅷ'._-/\\。、\uff01“”\uff0c\u017f\u2019'ก้ไ\u0301_😀\"")
UNSPACED += ["'s", "'ll", "'T", "12", "Ab", "\n", "\n", "\r\n", "\n\n", "\t", "\x0b"]
UNSPACED += ["\u3000", "\u3000\u3000", "\xa0", "\x85", "\x1c", "\u2028", "\u2009", " ", "  "]


def texts(count: int) -> Iterator[str]:
    """Yield text with every pair of kinds of characters, and runs of white space."""
    chance = random.Random(1)
    for _ in range(count):
        yield "".join(chance.choices(KINDS, k=600))
        yield "".join(random_text(chance) for _ in range(20))
    yield from AWKWARD


@pytest.fixture(scope="module")
def pairs() -> Tokenizer:
    """Return a tokenizer that merges any two characters: its ids show every split."""
    characters = sorted({character for kind in (*KINDS, *UNSPACED) for character in kind})
    tokens = [bytes([byte]) for byte in range(256)]
    for character in characters:
        data = character.encode()
        tokens += [data[:length] for length in range(2, len(data) + 1)]
    tokens += [(a + b).encode() for a in characters for b in characters]
    ranks = {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}
    return Tokenizer(
        tiktoken.Encoding(
            "pairs",
            pat_str=PATTERN,
            mergeable_ranks=ranks,
            special_tokens={END_OF_TEXT: len(ranks)},
        )
    )


@pytest.mark.parametrize("name", PATTERNS)
def test_the_ids_of_the_pieces_are_those_of_the_whole(pairs: Tokenizer, name: str) -> None:
    whole = cutting(pairs, PATTERNS[name])
    count = 0
    for text in texts(150):
        cut = [piece.text for piece in cut_safely([Piece(text, True)], SIZE, LONGEST)]
        count += len(cut)
        assert "".join(cut) == text
        found = [token for piece in cut for token in whole.encode_ordinary(piece)]
        assert found == whole.encode_ordinary(text), cut
    assert count > 2500  # the texts were cut


@pytest.mark.parametrize("name", PATTERNS)
def test_every_position_to_cut_at_is_safe(pairs: Tokenizer, name: str) -> None:
    whole, chance, count = cutting(pairs, PATTERNS[name]), random.Random(3), 0
    for _ in range(1500):
        text = "".join(chance.choices(UNSPACED, k=chance.randint(2, 24)))
        ids = whole.encode_ordinary(text)
        for at in (*_places(_SAFE, text, 1, len(text)), *_places(_ALSO_SAFE, text, 1, len(text))):
            count += 1
            assert whole.encode_ordinary(text[:at]) + whole.encode_ordinary(text[at:]) == ids, (
                text[:at],
                text[at:],
            )
    assert count > 3000


@pytest.mark.parametrize(
    "text",
    [
        "\u3000\u3000天地玄黄、宇宙洪荒。\n" * 40,
        "\u3000天地玄黄\n" * 40,
        "天地玄黄\n\n宇宙洪荒。\n\n" * 40,
        "ああ、いい。うう「ええ」おお" * 40,
        "สวัสดี\n\nครับ?" * 40,
        "\tif x:\n\t\treturn\n" * 40,
        "a\xa0b\xa0\u2009c" * 80,
        '{"a":[1,2,{"b":null}],"c":"d"}' * 40,
        "ab12cd34ef56+/" * 40,
        "0123456789abcdef" * 40,
    ],
)
def test_text_without_spaces_is_cut_into_short_pieces(text: str) -> None:
    cut = [piece.text for piece in cut_safely([Piece(text, True)], SIZE, LONGEST)]
    assert "".join(cut) == text
    assert max(map(len, cut)) <= SIZE


def test_text_without_a_safe_position_is_searched_once() -> None:
    """Otherwise the time grows with the square of its length."""
    looked, found = 0, batches._places

    def count(safe: object, text: str, first: int, last: int) -> Iterator[int]:
        nonlocal looked
        looked += max(min(last, len(text)) - first, 0)
        return found(safe, text, first, last)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "_places", count)
        parts = [*[Piece("字" * 1000, False)] * 100, Piece("字", True)]
        assert len(list(cut_safely(parts, SIZE, LONGEST))) == 2
    assert looked < 6 * 100_000


def test_the_cuts_do_not_depend_on_the_input_pieces() -> None:
    chance = random.Random(2)
    for text in filter(None, texts(60)):
        whole = list(cut_safely([Piece(text, True)] * 2, SIZE, 500))
        parts = []
        for _ in range(2):
            ends = sorted({*chance.choices(range(1, len(text) + 1), k=5), len(text)})
            starts = [0, *ends[:-1]]
            parts += [Piece(text[a:b], b == len(text)) for a, b in zip(starts, ends, strict=True)]
        assert list(cut_safely(parts, SIZE, 500)) == whole


def test_the_ends_of_documents_are_kept() -> None:
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
            time.sleep(0.2)  # the bar is redrawn ten times a second
            yield piece

    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert list(shown(slowly, "encode", 1000)()) == pieces
    data = b""
    with os.fdopen(leader, "rb", buffering=0) as screen, suppress(OSError):  # Linux: the end
        while some := screen.read(10_000):
            data += some
    drawn = data.decode()
    assert re.search(r"encode: +60%.* 600/1\.00k .*encode: 100%.* 1\.00k/1\.00k ", drawn, re.S)
