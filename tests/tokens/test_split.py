"""Which split a document belongs to."""

import random

import pytest

from tests.helpers import SPLIT, make_documents
from tinyllm.common.params import Split
from tinyllm.tokens.split import SPLITS, TEST, TRAIN, VALIDATION, Part, parts, split_of

TEXT = "The 3 Quick Foxes of 2024\njump over 17 lazy dogs.\n"


@pytest.mark.parametrize(
    "twin",
    [
        TEXT.lower(),
        TEXT.upper(),
        TEXT.replace(" ", "\n\n \t"),
        "  " + TEXT.strip(),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace(" ", "\u3000"),
        TEXT.replace("3", "9").replace("2024", "1999").replace("17", "42"),
        TEXT.replace("3", "\u0663"),  # a digit of another script
    ],
)
def test_near_twins_fall_together(twin: str) -> None:
    # At one fraction they could do so by chance; at each of these, hardly.
    for percent in range(1, 50):
        settings = Split(validation_fraction=percent / 100, test_fraction=percent / 100)
        assert split_of(twin, settings) == split_of(TEXT, settings)


def test_other_texts_fall_elsewhere() -> None:
    settings = Split(validation_fraction=0.3, test_fraction=0.3)
    fell = {split_of(TEXT + word, settings) for word in ("a", "b", "c", "d", "e", "f", "g", "h")}
    assert fell == set(SPLITS)


def test_duplicates_fall_together_wherever_they_stand() -> None:
    documents = make_documents(60, seed=1)
    found = list(parts([*documents, *reversed(documents)], SPLIT))
    assert [part.split for part in found[:60]] == [part.split for part in reversed(found[60:])]


def test_adding_documents_moves_none() -> None:
    documents = make_documents(100, seed=1)
    more = make_documents(100, seed=2)
    before = {part.text: part.split for part in parts(documents, SPLIT)}
    mixed = documents + more
    random.Random(1).shuffle(mixed)
    after = {part.text: part.split for part in parts(mixed, SPLIT)}
    assert {text: after[text] for text in before} == before


def test_every_document_comes_through_unchanged_and_in_order() -> None:
    documents = make_documents(50, seed=1)
    assert [part.text for part in parts(iter(documents), SPLIT)] == documents
    assert [part.text for part in parts(documents[:2], SPLIT)] == documents[:2]
    assert list(parts([], SPLIT)) == []


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.05, 0.3), (0.5, 0.01)])
def test_the_fractions_hold_roughly(validation: float, test: float) -> None:
    settings = Split(validation_fraction=validation, test_fraction=test)
    count = 5000
    fell = [split_of(f"document number {'x' * i}", settings) for i in range(count)]
    for split, share in {VALIDATION: validation, TEST: test}.items():
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs(fell.count(split) / count - share) < 4 * deviation


def test_a_larger_fraction_only_adds_test_documents() -> None:
    documents = make_documents(200, seed=1)
    wide = Split(validation_fraction=0.1, test_fraction=0.3)
    narrow = {text for text in documents if split_of(text, SPLIT) == TEST}
    assert narrow < {text for text in documents if split_of(text, wide) == TEST}


def test_a_single_document_is_cut_by_position() -> None:
    lines = [f"line {i}\n" for i in range(1000)]
    found = list(parts(["".join(lines)], SPLIT))
    assert [part.split for part in found] == [TRAIN, VALIDATION, TEST]
    assert "".join(part.text for part in found) == "".join(lines)
    assert [part.text[-1] for part in found] == ["\n"] * 3  # between lines, not within one
    shares = [len(part.text) / len("".join(lines)) for part in found]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.002)


def test_a_single_document_without_lines_is_cut_all_the_same() -> None:
    found = list(parts(["x" * 1000], SPLIT))
    assert found == [
        Part(TRAIN, "x" * 800),
        Part(VALIDATION, "x" * 100),
        Part(TEST, "x" * 100),
    ]
