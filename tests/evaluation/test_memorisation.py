"""Text found in the training split: the same as a plain search of the whole text finds."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.helpers import ALPHABET, make_documents
from tinyllm.data.token_store import Tokens
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation import memorisation
from tinyllm.evaluation.memorisation import SHORTEST, Verbatim, find_verbatim, title

LINE = "A sentence of more than fifty characters, so that it is found: "


def split_of(tokenizer: Tokenizer, documents: Sequence[str]) -> Tokens:
    return tokenizer.encode_documents(documents)


def search(tokenizer: Tokenizer, documents: Sequence[str], texts: Sequence[str]) -> Verbatim:
    (found,) = find_verbatim([texts], split_of(tokenizer, documents), tokenizer)
    return found


def plain_search(documents: Sequence[str], texts: Sequence[str]) -> tuple[list[int], int]:
    """The number of characters of each text that are found, and the length of the longest run."""
    covered, longest = [], 0
    for text in texts:
        inside = set[int]()
        for start in range(len(text) - SHORTEST + 1):
            size = SHORTEST
            while any(text[start : start + size] in document for document in documents):
                inside |= {*range(start, start + size)}
                longest = max(longest, size)
                if start + size == len(text):
                    break
                size += 1
        covered.append(len(inside))
    return covered, longest


def mixed(documents: Sequence[str], seed: int) -> list[str]:
    """Texts in which parts of documents, of many lengths, alternate with other text."""
    chance = np.random.default_rng(seed)
    other = "".join(make_documents(30, seed=seed + 1000))
    texts = []
    for _ in range(12):
        parts = []
        for _ in range(chance.integers(1, 5)):
            for source in (documents[int(chance.integers(len(documents)))], other):
                start = chance.integers(len(source) + 1)
                parts.append(source[start : start + chance.integers(1, 130)])
        texts.append("".join(parts))
    return texts


@pytest.mark.parametrize("at_once", [7, 64, 1 << 18])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_result_is_that_of_a_plain_search(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, seed: int, at_once: int
) -> None:
    """Also if a part of the training split is shorter than a run or ends within a character."""
    monkeypatch.setattr(memorisation, "TOKENS_AT_ONCE", at_once)
    documents = make_documents(40, seed=seed)
    documents += [
        "".join(np.random.default_rng(seed).choice(ALPHABET, 300)),
        "",
        LINE * 3,
        "\0" * 80,
    ]
    texts = [*mixed(documents, seed), "", LINE[:49], LINE[:50], LINE * 2, documents[40], "\0" * 60]
    found = search(tokenizer, documents, texts)
    covered, longest = plain_search(documents, texts)
    assert 0 < sum(covered) < sum(map(len, texts))
    assert found.found == covered
    assert found.characters == [len(text) for text in texts]
    assert found.share == sum(covered) / sum(map(len, texts))
    match = found.longest
    assert len(match.text) == longest
    assert match.text in texts[match.sample]
    assert match.text in documents[match.document]


def test_equal_hashes_are_not_enough(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this multiplier, the hash is the sum of the characters; here they increase."""
    monkeypatch.setattr(memorisation, "MULTIPLIER", 1)
    text = "".join(chr(0x4E00 + number) for number in range(60))
    assert search(tokenizer, [text[::-1], f"{text[1:]}a"], [text]).longest.text == text[1:]
    assert search(tokenizer, [text[::-1]], [text]).found == [0]


def test_no_match_crosses_the_end_of_a_document(tokenizer: Tokenizer) -> None:
    start, end = LINE[:30], LINE[30:]
    assert search(tokenizer, [start, end], [LINE]).found == [0]
    assert search(tokenizer, [start + end], [LINE]).found == [len(LINE)]
    # Nor of a text.
    assert search(tokenizer, [LINE], [start, end]).found == [0, 0]


def test_the_separator_of_documents_is_no_text(tokenizer: Tokenizer) -> None:
    """<|endoftext|> in a document is ordinary text; so is any byte that a model generates."""
    text = f"{LINE[:30]}<|endoftext|>{LINE[:30]}"
    assert search(tokenizer, [text], [text]).found == [len(text)]
    assert search(tokenizer, [LINE[:30], LINE[:30]], [text]).found == [0]
    tokens = [*tokenizer.encode(LINE[:30]), 255, *tokenizer.encode(LINE[:30])]
    assert tokenizer.decode_bytes([255]) == b"\xff"
    assert search(tokenizer, [LINE[:30], LINE[:30]], [tokenizer.decode(tokens)]).found == [0]


def test_groups_are_searched_separately(tokenizer: Tokenizer) -> None:
    documents = ["nothing", LINE * 2, LINE[:55]]
    tokens = split_of(tokenizer, documents)
    none, some, all_of_it = find_verbatim(
        [[], ["x" * 80, LINE[:55]], [LINE * 2]], tokens, tokenizer
    )
    assert (none.share, none.longest.document, none.longest.text) == (0, -1, "")
    assert some.found == [0, 55] and some.longest.sample == 1 and some.longest.document in (1, 2)
    assert all_of_it.share == 1
    assert (all_of_it.longest.text, all_of_it.longest.document) == (LINE * 2, 1)
    assert all_of_it.longest.title.startswith(LINE[:10])


@pytest.mark.parametrize("at_once", [1, 5, 1 << 18])
def test_the_title_of_a_document_is_its_first_line(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(memorisation, "TOKENS_AT_ONCE", at_once)
    documents = ["One\ntwo", "", "\n  Three words here\nand more", LINE * 9, "é\n"]
    tokens = split_of(tokenizer, documents)
    titles = [title(tokens, tokenizer, number) for number in range(len(documents))]
    assert titles[:3] == ["One", "", "Three words here"] and titles[4] == "é"
    assert (LINE * 9).startswith(titles[3]) and 5 < len(titles[3]) < len(LINE * 9)


def test_long_repetitions_are_searched_in_reasonable_memory(tokenizer: Tokenizer) -> None:
    """Every run of such a text equals every run of the document."""
    found = search(tokenizer, ["-" * 200_000], ["-" * 3_000])
    assert found.share == 1 and len(found.longest.text) == 3_000
