"""Assigning documents to splits."""

import random
import re
from itertools import pairwise

import pytest

from tests.helpers import SPLIT, content_hash, make_documents, random_text, split_of
from tinyllm.data.split_rule import SPLITS, TEST, VALIDATION, ContentHash, fold
from tinyllm.settings.split import Split

TEXT = "The 3 Quick Foxes of 2024\njump over 17 lazy dogs.\n"


def fractions(validation: float, test: float) -> Split:
    return Split(validation_fraction=validation, test_fraction=test, near_duplicates=0)


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
def test_documents_that_differ_in_case_or_digits_share_a_split(twin: str) -> None:
    # At one fraction this could be chance; at all of these, hardly.
    for percent in range(1, 50):
        settings = fractions(percent / 100, percent / 100)
        assert split_of(twin, settings) == split_of(TEXT, settings)


def test_other_texts_get_other_splits() -> None:
    settings = fractions(0.3, 0.3)
    fell = {split_of(TEXT + word, settings) for word in ("a", "b", "c", "d", "e", "f", "g", "h")}
    assert fell == set(SPLITS)


def plainly_folded(text: str) -> bytes:
    return re.sub(r"\d", "0", " ".join(text.casefold().split())).encode()


def test_folding_bytes_equals_folding_text() -> None:
    chance = random.Random(1)
    for text in (random_text(chance) for _ in range(3000)):
        assert fold(text) == plainly_folded(text)


def test_a_hash_in_parts_equals_that_of_the_whole() -> None:
    chance = random.Random(2)
    for _ in range(1000):
        text = random_text(chance) + " " * chance.randint(0, 3) + random_text(chance)
        whole = ContentHash()
        cuts = sorted(chance.choices(range(len(text) + 1), k=4))
        for start, end in pairwise([0, *cuts, len(text)]):
            whole.update(text[start:end])
        assert whole.value == content_hash(text) == content_hash(f"\t{text}\n ")


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.05, 0.3), (0.5, 0.01)])
def test_the_fractions_are_approximate(validation: float, test: float) -> None:
    settings = fractions(validation, test)
    count = 5000
    fell = [split_of(f"document number {'x' * i}", settings) for i in range(count)]
    for split, share in {VALIDATION: validation, TEST: test}.items():
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs(fell.count(split) / count - share) < 4 * deviation


def test_a_larger_fraction_only_adds_test_documents() -> None:
    documents = make_documents(200, seed=1)
    wide = fractions(0.1, 0.3)
    narrow = {text for text in documents if split_of(text, SPLIT) == TEST}
    assert narrow < {text for text in documents if split_of(text, wide) == TEST}
