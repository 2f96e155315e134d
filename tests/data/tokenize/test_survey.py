"""Reading a corpus for the first time: duplicates, and the split of each document."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import SPLIT, corpus_of, make_documents, split_of
from tinyllm.data.readers.documents import Piece
from tinyllm.data.split_rule import SPLITS, TEST, TRAIN, VALIDATION
from tinyllm.data.tokenize import sketches
from tinyllm.data.tokenize import survey as surveys
from tinyllm.data.tokenize.batches import Corpus
from tinyllm.data.tokenize.sketches import SIGNATURES, SKETCHES
from tinyllm.data.tokenize.survey import CODES, DROPPED, NearDuplicates, Survey, labelled, survey
from tinyllm.data.tokenize.workers import Workers
from tinyllm.settings.split import Split

APART = SPLIT.model_copy(update={"near_duplicates": 0})


def look(corpus: Corpus, notes: Path, settings: Split = SPLIT) -> Survey:
    notes.mkdir()
    return survey(corpus, settings, notes, Workers(0))


def found_in(corpus: Corpus, survey: Survey) -> dict[str, str]:
    """Return each kept document with its split."""
    found, text = {}, ""
    for code, piece in labelled(corpus, survey):
        text += piece.text
        if piece.last:
            found[text], text = SPLITS[code], ""
    return found


def test_the_split_of_each_document_depends_on_its_content(tmp_path: Path) -> None:
    documents = make_documents(300, seed=1)
    found = look(corpus_of(documents), tmp_path / "a")
    assert found_in(corpus_of(documents), found) == {t: split_of(t, SPLIT) for t in documents}
    assert found.bytes[TRAIN] == sum(len(t) for t in documents if split_of(t, SPLIT) == TRAIN)
    assert (found.duplicates, found.near) == (0, NearDuplicates(0, 0, 0))


def test_adding_documents_moves_none(tmp_path: Path) -> None:
    documents, more = make_documents(200, seed=1), make_documents(200, seed=2)
    before = corpus_of(documents)
    mixed = documents + more
    random.Random(1).shuffle(mixed)
    after = corpus_of(mixed)
    moved = (
        found_in(before, look(before, tmp_path / "a")).items()
        - found_in(after, look(after, tmp_path / "b")).items()
    )
    assert not moved


@pytest.mark.parametrize("at_once", [7, 1 << 18])
def test_the_first_of_equal_documents_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    for module in (surveys, sketches):
        monkeypatch.setattr(module, "AT_ONCE", at_once)
    documents = make_documents(100, seed=1)
    order = [*range(100), *random.Random(1).choices(range(100), k=80)]
    corpus = corpus_of([documents[i] for i in order])
    found = look(corpus, tmp_path / "a", APART)
    assert found.duplicates == 80
    assert np.flatnonzero(found.codes == DROPPED).tolist() == [*range(100, 180)]
    assert list(found_in(corpus, found)) == documents
    # Documents that differ in case alone are not duplicates, but share a split.
    twins = corpus_of([*documents, *map(str.upper, documents)])
    assert look(twins, tmp_path / "b", APART).duplicates == 0


def with_planted_twins(count: int) -> tuple[list[str], dict[str, str]]:
    """Return documents with near-duplicates whose own content would assign them another split."""
    chance = random.Random(5)
    documents = ["\n".join(make_documents(10, seed=seed)) for seed in range(count)]
    twins = {}
    for original in documents[::5]:
        words = original.split(" ")
        while split_of(twin := " ".join(words), SPLIT) == split_of(original, SPLIT):
            words = original.split(" ")
            words[chance.randrange(len(words))] = chance.choice(["changed", "another", "new"])
        twins[twin] = original
    return [*documents, *twins], twins


def test_near_duplicates_are_never_in_different_splits(tmp_path: Path) -> None:
    documents, twins = with_planted_twins(200)
    corpus = corpus_of(documents)
    found = look(corpus, tmp_path / "a")
    splits = found_in(corpus, found)
    assert all(splits[twin] == splits[original] for twin, original in twins.items())
    assert found.near == NearDuplicates(groups=40, documents=80, moved=40)
    # The first of a group, and documents without near-duplicates, keep their split.
    assert all(splits[t] == split_of(t, SPLIT) for t in documents if t not in twins)
    # Without the search they would be in different splits.
    apart = found_in(corpus, look(corpus, tmp_path / "b", APART))
    assert all(apart[twin] != apart[original] for twin, original in twins.items())


def test_near_duplicates_are_not_searched_above_the_limit(tmp_path: Path) -> None:
    documents, _ = with_planted_twins(50)
    size = sum(map(len, documents))
    for limit, looked in ((size, True), (size - 1, False)):
        settings = SPLIT.model_copy(update={"near_duplicates": limit})
        found = look(corpus_of(documents), tmp_path / str(limit), settings)
        assert (found.near is not None) == looked


def test_near_duplicates_are_found_in_long_documents_in_pieces(tmp_path: Path) -> None:
    long = " ".join(make_documents(4000, seed=9))
    twin = long.replace(" ", "  changed ", 1)
    short = make_documents(100, seed=1)
    whole = corpus_of([*short, long, twin])

    def in_pieces() -> list[Piece]:
        parts = [[Piece(t[:77_777], False), Piece(t[77_777:], True)] for t in (long, twin)]
        return [*(Piece(text, True) for text in short), *parts[0], *parts[1]]

    found = [look(whole, tmp_path / "a"), look(in_pieces, tmp_path / "b")]
    assert [survey.near and survey.near.groups for survey in found] == [1, 1]
    assert np.array_equal(found[0].codes, found[1].codes)


# ----- a full disk


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="requires Linux's /dev/full")
@pytest.mark.parametrize("name", [SKETCHES, SIGNATURES, CODES, "hashes-0"])
def test_a_full_disk_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        survey(corpus_of(make_documents(10, seed=1)), SPLIT, tmp_path, Workers(0))


def test_files_are_written_before_they_are_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, writing to a page of a sparse map kills the process."""
    placed, memmap = {}, np.memmap

    def mapped(path: Path, **options: Any) -> Any:
        found = path.stat()
        placed[path.name] = found.st_blocks * 512 >= found.st_size > 0
        return memmap(path, **options)

    monkeypatch.setattr(np, "memmap", mapped)
    look(corpus_of(make_documents(5000, seed=1)), tmp_path / "a")
    assert placed == {CODES: True, SIGNATURES: True}


# ----- a single document


def in_pieces_of(size: int, text: str) -> Corpus:
    parts = [text[i : i + size] for i in range(0, len(text), size)]
    return lambda: [Piece(part, i == len(parts) - 1) for i, part in enumerate(parts)]


@pytest.mark.parametrize("size", [13, 997, 1 << 20])
def test_a_single_document_is_cut_by_position(tmp_path: Path, size: int) -> None:
    text = "".join(f"line {i}\n" for i in range(1000))
    corpus = in_pieces_of(size, text)
    found = look(corpus, tmp_path / "a")
    splits = found_in(corpus, found)
    assert [*splits.values()] == [TRAIN, VALIDATION, TEST]
    assert "".join(splits) == text
    assert [part[-1] for part in splits] == ["\n"] * 3  # between lines, not inside one
    shares = [len(part) / len(text) for part in splits]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.002)
    assert sum(found.bytes.values()) == pytest.approx(len(text), abs=2)


def test_a_single_document_without_lines_is_cut_too(tmp_path: Path) -> None:
    corpus = corpus_of(["".join(map(chr, range(1000, 2000)))])
    splits = found_in(corpus, look(corpus, tmp_path / "a"))
    assert [len(part) for part in splits] == [800, 100, 100]


WORDS = "letter " * 1990 + "letter"


@pytest.mark.parametrize("size", [13, 997, 1 << 20])
@pytest.mark.parametrize(
    ("lines", "shares", "ends"),
    [
        ([1.0], [0.8, 0.1, 0.1], "  \n"),  # one line
        ([0.5, 0.35, 0.15], [0.85, 0.05, 0.1], "\n \n"),  # cut after the second, in the last
        ([0.85, 0.149, 0.001], [0.85, 0.05, 0.1], "\n \n"),
    ],
)
def test_a_very_long_line_is_cut_after_a_word(
    tmp_path: Path, size: int, lines: list[float], shares: list[float], ends: str
) -> None:
    cuts = [round(len(WORDS) * share / 7) * 7 for share in np.cumsum([0.0, *lines])]
    text = "".join(f"{WORDS[a : b - 1]}\n" for a, b in pairwise(cuts))
    corpus = in_pieces_of(size, text)
    splits = found_in(corpus, look(corpus, tmp_path / "a"))
    assert "".join(splits) == text
    assert [*splits.values()] == [TRAIN, VALIDATION, TEST]
    assert "".join(part[-1] for part in splits) == ends
    assert [len(part) / len(text) for part in splits] == pytest.approx(shares, abs=0.002)


@pytest.mark.parametrize("text", ["日本語" * 300 + "\n", "é" * 500 + " " + "ü" * 498 + "\n"])
def test_a_word_as_long_as_the_text_is_cut_between_characters(tmp_path: Path, text: str) -> None:
    corpus = corpus_of([text])
    splits = found_in(corpus, look(corpus, tmp_path / "a"))
    assert "".join(splits) == text
    shares = [len(part) / len(text) for part in splits]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.002)


def test_copies_of_one_document_count_as_a_single_one(tmp_path: Path) -> None:
    text = "".join(f"line {i}\n" for i in range(100))
    corpus = corpus_of([text] * 3)
    found = look(corpus, tmp_path / "a")
    assert (found.duplicates, found.documents) == (2, 3)
    assert "".join(found_in(corpus, found)) == text


@pytest.mark.parametrize("templates", [1, 2])
def test_a_split_emptied_by_near_duplicates_is_explained(tmp_path: Path, templates: int) -> None:
    """For example thousands of letters of one or two templates."""
    texts = ["\n".join(make_documents(10, seed=seed)) for seed in range(templates)]
    names = [a + b for a in "abcdefghijklmnopqrst" for b in "uvwxyz"]
    documents = [f"{text} letter to {name}" for text in texts for name in names]
    count = len(documents)
    message = (
        rf"^the \w+ split got none of {count} document\(s\), because {count} of them are "
        rf"near-duplicates of each other, in {templates} group\(s\), .*: set "
        r"split\.near_duplicates: 0 to divide them"
    )
    with pytest.raises(ValueError, match=message) as caught:
        look(corpus_of(documents), tmp_path / "a")
    assert "fraction" not in str(caught.value)  # which would move whole groups
    assert look(corpus_of(documents), tmp_path / "b", APART).documents == count  # the advice works


def test_other_fractions_are_suggested_if_most_documents_have_no_near_duplicate(
    tmp_path: Path,
) -> None:
    few = SPLIT.model_copy(update={"validation_fraction": 0.001, "test_fraction": 0.001})
    followed = NearDuplicates(2, 4, 1)
    with pytest.raises(ValueError, match=r"raise split\.validation_fraction or split\.test_fr"):
        look(corpus_of(make_documents(20, seed=1)), tmp_path / "a", few)
    assert "or raise split.validation_fraction" in surveys._too_few(TEST, 20, 20, 0, followed)


def test_documents_that_differ_in_digits_alone_are_reported(tmp_path: Path) -> None:
    documents = [f"Your balance is {number} euros." for number in range(500)]
    message = r"500 document\(s\), because all but 3 of them differ from another only in digits"
    with pytest.raises(ValueError, match=message) as caught:
        look(corpus_of(documents), tmp_path / "a", APART)
    assert "near_duplicates" not in str(caught.value)  # it can't help here
    assert "fraction" not in str(caught.value)


def test_an_empty_split_reports_exact_duplicates(tmp_path: Path) -> None:
    message = r"^the \w+ split got none of 1 document\(s\) \(4,999 exact duplicates skipped\): "
    with pytest.raises(ValueError, match=message):
        look(corpus_of(["a"] * 5000), tmp_path / "a")


def test_lower_fractions_are_suggested_without_training_documents(tmp_path: Path) -> None:
    documents = [text for text in make_documents(100, seed=1) if split_of(text, SPLIT) != TRAIN]
    with pytest.raises(ValueError, match=r"^the train split got none .*: lower split\."):
        look(corpus_of(documents), tmp_path / "a", APART)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "^the corpus is empty"),
        (["a"], r"^the \w+ split got none of 1 document\(s\): .*download.separator"),
        (["a", "b"], r"^the \w+ split got none of 2 document\(s\)"),
    ],
)
def test_too_little_text_is_an_error(tmp_path: Path, documents: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        look(corpus_of(documents), tmp_path / "a")
