"""Encoding a corpus; the tokenizer is never trained on the test split."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import SPLIT, corpus_of, encode, make_documents, split_of
from tinyllm.data import token_store
from tinyllm.data.readers.documents import Piece
from tinyllm.data.split_rule import SPLITS, TEST, TRAIN, VALIDATION
from tinyllm.data.token_store import TokenSplit, read_split, write_splits
from tinyllm.data.tokenize.batches import Corpus
from tinyllm.data.tokenize.encode import make_tokenizer
from tinyllm.data.tokenize.survey import survey
from tinyllm.data.tokenize.workers import Workers
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.settings.tokenize import Tokenize

BPE = Tokenize(encoding="bpe", vocab_size=400, sample_bytes=None)
RARE = "zyxwvut"


def learned(corpus: Corpus, notes: Path, settings: Tokenize = BPE) -> Tokenizer:
    """Return the tokenizer of a corpus."""
    notes.mkdir()
    return make_tokenizer(corpus, survey(corpus, SPLIT, notes, Workers(0)), settings)


def with_rare_word(documents: list[str], *splits: str) -> list[str]:
    """Return the documents; those of some splits are full of a word that occurs nowhere else."""
    changed = []
    for text in documents:
        rare = f"{text} {f'{RARE} ' * 30}"
        changed.append(rare if split_of(rare, SPLIT) in splits else text)
    return changed


def longest_shared(tokenizer: Tokenizer) -> int:
    """Return the length of the longest part of the rare word in the vocabulary."""
    tokens = [tokenizer.decode_bytes([i]).decode("latin-1") for i in range(tokenizer.vocab_size)]
    known = [token.strip() for token in tokens if token.strip() and token.strip() in RARE]
    return max(map(len, known))


def test_the_tokenizer_is_trained_on_training_documents_only(tmp_path: Path) -> None:
    documents = make_documents(300, seed=1)
    held_out = with_rare_word(documents, VALIDATION, TEST)
    assert sum(RARE in text for text in held_out) > 30
    assert longest_shared(learned(corpus_of(held_out), tmp_path / "a")) == 1
    # The word in training documents is found: the test can fail.
    assert longest_shared(Tokenizer.train(held_out, BPE.vocab_size)) == len(RARE)
    shown = with_rare_word(documents, TRAIN)
    assert longest_shared(learned(corpus_of(shown), tmp_path / "b")) == len(RARE)


def test_only_the_training_part_of_a_single_document_trains_the_tokenizer(tmp_path: Path) -> None:
    text = "\n".join(make_documents(300, seed=1))
    held_out = text[: int(len(text) * 0.85)] + f"\n{RARE}" * 300
    assert longest_shared(learned(corpus_of([held_out]), tmp_path / "a")) == 1


def test_held_out_documents_change_no_token(tmp_path: Path) -> None:
    documents = make_documents(300, seed=1)
    other = iter(make_documents(3000, seed=2))
    changed = [
        text if split_of(text, SPLIT) == TRAIN
        else next(new for new in other if split_of(new, SPLIT) != TRAIN)
        for text in documents
    ]  # fmt: skip
    one = learned(corpus_of(documents), tmp_path / "a")
    two = learned(corpus_of(changed), tmp_path / "b")
    assert documents != changed
    assert one.encoding._mergeable_ranks == two.encoding._mergeable_ranks


def test_a_sample_is_drawn_from_all_of_the_training_text(tmp_path: Path) -> None:
    documents = [
        f"{text} {RARE if i > 1000 else ''}" for i, text in enumerate(make_documents(2000, 1))
    ]
    size = sum(len(text) for text in documents)
    sampled = BPE.model_copy(update={"sample_bytes": size // 10})
    found = learned(corpus_of(documents), tmp_path / "a", sampled)
    assert longest_shared(found) == len(RARE)  # not only the first documents
    assert (
        found.encoding._mergeable_ranks != Tokenizer.train(documents, 400).encoding._mergeable_ranks
    )
    # The same documents in another order: the same sample.
    again = learned(corpus_of(documents[::-1]), tmp_path / "b", sampled)
    assert found.encoding._mergeable_ranks == again.encoding._mergeable_ranks
    # Even a tiny sample of few documents trains on some text.
    few = learned(
        corpus_of(documents[:80]), tmp_path / "c", BPE.model_copy(update={"sample_bytes": 1})
    )
    assert few.vocab_size > 257


@pytest.fixture
def splits(tmp_path: Path, tokenizer: Tokenizer) -> "Splits":
    """Return a function that encodes documents and reads back their splits."""

    def make(corpus: Corpus) -> dict[str, TokenSplit]:
        encode(corpus, tokenizer, tmp_path)
        folders = {split: tmp_path / split for split in SPLITS}
        for folder in folders.values():
            folder.mkdir()
        write_splits(tmp_path / "tokens", folders)
        return {split: read_split(folder) for split, folder in folders.items()}

    return make


Splits = Callable[[Corpus], dict[str, TokenSplit]]


def texts(split: TokenSplit, tokenizer: Tokenizer) -> list[str]:
    """Return the documents of a split; each ends in <|endoftext|>."""
    tokens = np.asarray(split.tokens)
    assert tokens[-1] == tokenizer.end_of_text
    ends = np.flatnonzero(tokens == tokenizer.end_of_text)
    pieces = np.split(tokens, ends + 1)[:-1]
    return [tokenizer.decode(piece[:-1].tolist()) for piece in pieces]


def test_each_document_is_in_its_split_and_in_no_other(
    splits: Splits, tokenizer: Tokenizer
) -> None:
    documents = [*make_documents(150, seed=1), "an <|endoftext|> that is text", "ä 😀 \x00"]
    made = splits(corpus_of(documents))
    for name, split in made.items():
        mine = [text for text in documents if split_of(text, SPLIT) == name]
        assert texts(split, tokenizer) == mine
        assert split.summary.documents == len(mine)
        assert split.summary.tokens == len(split.tokens)
        assert split.summary.bytes == sum(len(text.encode()) for text in mine)
        assert split.summary.vocab_size == tokenizer.vocab_size
        # Evaluation counts the bytes of the text.
        assert tokenizer.token_bytes()[split.tokens].sum() == split.summary.bytes


def test_a_single_document_is_split_into_three_parts(splits: Splits, tokenizer: Tokenizer) -> None:
    text = "\n".join(make_documents(100, seed=1))
    made = splits(corpus_of([text]))
    assert "".join(texts(made[split], tokenizer)[0] for split in SPLITS) == text


def test_the_totals_equal_those_of_the_splits(tokenizer: Tokenizer, tmp_path: Path) -> None:
    documents = make_documents(100, seed=1)
    _, totals = encode(corpus_of(documents), tokenizer, tmp_path)
    sizes = []
    for split in SPLITS:
        mine = [text for text in documents if split_of(text, SPLIT) == split]
        sizes += [len(tokenizer.encode(text)) + 1 for text in mine]
        found = totals.of_split[split]
        assert found["documents"] == len(mine)
        assert found["bytes"] == sum(len(text.encode()) for text in mine)
    assert totals.all()["tokens"] == sum(sizes)
    assert totals.of_length == Counter(sizes)
    assert totals.of_token[tokenizer.end_of_text] == 100
    assert totals.of_token.sum() == sum(sizes)


@pytest.mark.parametrize("missing", SPLITS)
def test_an_empty_split_is_an_error(tokenizer: Tokenizer, tmp_path: Path, missing: str) -> None:
    documents = [t for t in make_documents(100, seed=1) if split_of(t, SPLIT) != missing]
    with pytest.raises(ValueError, match=f"^the {missing} split got none of {len(documents)} "):
        encode(corpus_of(documents), tokenizer, tmp_path)
    assert not list((tmp_path / "tokens").iterdir())


def in_pieces(documents: list[str], size: int) -> Corpus:
    """Yield the documents in pieces of `size` characters."""

    def read() -> Iterator[Piece]:
        for text in documents:
            for start in range(0, len(text), size):
                yield Piece(text[start : start + size], start + size >= len(text))

    return read


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_neither_workers_nor_pieces_change_a_byte(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_store, "SHARD_TOKENS", 50_000)
    long = " ".join(make_documents(3000, seed=3))
    documents = [
        *make_documents(300, seed=1),
        long,
        "x" * 70_000,
        f"a{' ' * 600_000}b",
        "<|endoftext|>",
    ]
    documents += [*make_documents(300, seed=2), *make_documents(40, seed=1)]
    whole = corpus_of(documents)
    one, _ = encode(whole, tokenizer, tmp_path / "one", workers=1)
    expected = files_of(tmp_path / "one" / "tokens")
    assert len(expected) > 6 and one.duplicates == 40
    for name, corpus, workers in [
        ("two", whole, 2), ("three", whole, 3), ("pieces", in_pieces(documents, 10_007), 0),
    ]:  # fmt: skip
        assert encode(corpus, tokenizer, tmp_path / name, workers=workers)[0].near == one.near
        assert files_of(tmp_path / name / "tokens") == expected


@pytest.mark.usefixtures("tiktoken_cache")
def test_a_published_encoding_by_its_name(tmp_path: Path) -> None:
    gpt2 = BPE.model_copy(update={"encoding": "gpt2"})
    found = learned(corpus_of(make_documents(100, seed=1)), tmp_path / "a", gpt2)
    assert found.vocab_size == 50257
