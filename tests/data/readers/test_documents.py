"""The cuts of documents depend on their text alone, not on its chunks or its length."""

import random
import re
from collections.abc import Callable, Iterable, Iterator

import pytest

from tinyllm.data.readers import documents as cutting
from tinyllm.data.readers.documents import LINE_HEAD, Part, Piece, begun, pieces, separated, whole

Cut = Callable[[Iterable[str]], Iterator[Part]]


def joined(found: Iterable[Piece]) -> list[str]:
    """Join pieces to documents."""
    documents, text = [], ""
    for piece in found:
        text += piece.text
        if piece.last:
            documents.append(text)
            text = ""
    assert text == ""
    return documents


def in_chunks(text: str, chance: random.Random) -> Iterator[str]:
    at = 0
    while at < len(text):
        size = chance.choice([1, 1, 2, 3, 7, 50])
        yield text[at : at + size]
        at += size


SEPARATORS = ["<|endoftext|>", "\n\n", "aa", "aab", "\n"]


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_separator_is_found_across_chunks(separator: str) -> None:
    chance = random.Random(separator)
    for _ in range(150):
        words = ["a", "b", "\n", " ", separator, separator[:-1], separator[1:], "<|", "end"]
        text = "".join(chance.choices(words, k=chance.randint(0, 30)))
        wanted = [document for document in text.split(separator) if document.strip()]
        assert joined(pieces(separated(in_chunks(text, chance), separator))) == wanted


def test_a_line_that_begins_a_document_is_found_across_chunks() -> None:
    chance = random.Random(2)
    for _ in range(300):
        words = ["Chapter", "Chap", "Chapter 1", "\n", "\n\n", " ", "a b", "x" * LINE_HEAD]
        text = "".join(chance.choices(words, k=chance.randint(0, 12)))
        wanted = [d for d in re.split(r"(?m)^(?=Chapter)", text) if d.strip()]
        assert joined(pieces(begun(in_chunks(text, chance), "Chapter"))) == wanted


def test_a_document_start_is_matched_within_its_line_only() -> None:
    lines = [" ", " = One = ", " text", " = = Part = = ", " more", " = Two = ", " end"]
    text = "\n".join(lines) + "\n"
    chance = random.Random(3)
    for _ in range(50):
        found = joined(pieces(begun(in_chunks(text, chance), r" = [^=].* = $")))
        assert found == ["\n".join(lines[1:5]) + "\n", "\n".join(lines[5:]) + "\n"]


@pytest.mark.parametrize(
    "cut", [whole, lambda c: separated(c, "<|>"), lambda c: begun(c, "Chapter")]
)
def test_pieces_depend_on_the_text_alone(cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LONGEST", 20)
    chance = random.Random(4)
    words = ["Chapter", "a", "bc", "\n", "    ", "<|>", "x" * 25, "\n\n\n"]
    for _ in range(200):
        text = "".join(chance.choices(words, k=chance.randint(0, 60)))
        at_once = list(pieces(cut([text])))
        assert list(pieces(cut(in_chunks(text, chance)))) == at_once
        assert all(0 < len(piece.text) <= 20 for piece in at_once)


def test_a_long_document_is_cut_after_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LONGEST", 10)
    text = "one\ntwo\nthree\n" + "x" * 25 + "\n"
    assert list(pieces(whole([text]))) == [
        ("one\ntwo\n", False),
        ("three\n", False),
        ("x" * 10, False),
        ("x" * 10, False),
        ("x" * 5 + "\n", True),
    ]
    # White space at the beginning stays if it fits into a piece; otherwise it is dropped.
    assert joined(pieces(whole(["\n" * 7, "text"]))) == ["\n" * 7 + "text"]
    assert joined(pieces(whole(["\n" * 70, "text"]))) == ["text"]
    assert joined(pieces(whole(["text", " " * 70]))) == ["text" + " " * 70]
    assert joined(pieces(whole([" " * 70]))) == []
