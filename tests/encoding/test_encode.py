"""A corpus into tokens: nothing of the test split may be learned from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import SPLIT, make_documents
from tinyllm.common.params import Tokenize
from tinyllm.encoding.encode import encode_corpus, make_tokenizer
from tinyllm.tokens.split import SPLITS, TEST, TRAIN, VALIDATION, split_of
from tinyllm.tokens.store import TokenSplit, read_split, write_splits
from tinyllm.tokens.tokenizer import Tokenizer

BPE = Tokenize(encoding="bpe", vocab_size=400)
RARE = "zyxwvut"


def with_rare_word(documents: list[str], *splits: str) -> list[str]:
    """The documents, those of some splits full of a word that stands nowhere else."""
    changed = []
    for text in documents:
        rare = f"{text} {f'{RARE} ' * 30}"
        changed.append(rare if split_of(rare, SPLIT) in splits else text)
    return changed


def longest_shared(tokenizer: Tokenizer) -> int:
    """Letters of the rare word that the vocabulary knows in a row."""
    tokens = [tokenizer.decode_bytes([i]).decode("latin-1") for i in range(tokenizer.vocab_size)]
    known = [token.strip() for token in tokens if token.strip() and token.strip() in RARE]
    return max(map(len, known))


def test_the_tokenizer_learns_from_training_documents_only() -> None:
    documents = make_documents(300, seed=1)
    held_out = with_rare_word(documents, VALIDATION, TEST)
    assert sum(RARE in text for text in held_out) > 30
    assert longest_shared(make_tokenizer(lambda: held_out, BPE, SPLIT)) == 1
    # And would have learned the word, had it been allowed to see it.
    assert longest_shared(Tokenizer.train(held_out, BPE.vocab_size)) == len(RARE)
    shown = with_rare_word(documents, TRAIN)
    assert longest_shared(make_tokenizer(lambda: shown, BPE, SPLIT)) == len(RARE)


def test_of_a_single_document_it_learns_from_the_training_part_only() -> None:
    text = "\n".join(make_documents(300, seed=1))
    held_out = text[: int(len(text) * 0.85)] + f"\n{RARE}" * 300
    assert longest_shared(make_tokenizer(lambda: [held_out], BPE, SPLIT)) == 1


def test_what_is_in_the_held_out_documents_changes_no_token() -> None:
    documents = make_documents(300, seed=1)
    training = [text for text in documents if split_of(text, SPLIT) == TRAIN]
    one = make_tokenizer(lambda: documents, BPE, SPLIT)
    two = make_tokenizer(lambda: training, BPE, SPLIT)
    assert one.encoding._mergeable_ranks == two.encoding._mergeable_ranks


@pytest.fixture
def splits(tmp_path: Path, tokenizer: Tokenizer) -> Callable[[list[str]], dict[str, TokenSplit]]:
    """Encodes documents, and reads back the splits they make."""

    def make(documents: list[str]) -> dict[str, TokenSplit]:
        folders = {split: tmp_path / split for split in SPLITS}
        for folder in [tmp_path / "tokens", *folders.values()]:
            folder.mkdir()
        encode_corpus(lambda: documents, tokenizer, SPLIT, tmp_path / "tokens")
        write_splits(tmp_path / "tokens", folders)
        return {split: read_split(folder) for split, folder in folders.items()}

    return make


Splits = Callable[[list[str]], dict[str, TokenSplit]]


def texts(split: TokenSplit, tokenizer: Tokenizer) -> list[str]:
    """The documents of a split, which end in <|endoftext|> each."""
    tokens = np.asarray(split.tokens)
    assert tokens[-1] == tokenizer.end_of_text
    ends = np.flatnonzero(tokens == tokenizer.end_of_text)
    pieces = np.split(tokens, ends + 1)[:-1]
    return [tokenizer.decode(piece[:-1].tolist()) for piece in pieces]


def test_each_document_is_found_in_its_split_and_in_no_other(
    splits: Splits, tokenizer: Tokenizer
) -> None:
    documents = [*make_documents(150, seed=1), "an <|endoftext|> that is text", "ä 😀 \x00"]
    made = splits(documents)
    for name, split in made.items():
        mine = [text for text in documents if split_of(text, SPLIT) == name]
        assert texts(split, tokenizer) == mine
        assert split.summary.documents == len(mine)
        assert split.summary.tokens == len(split.tokens)
        assert split.summary.bytes == sum(len(text.encode()) for text in mine)
        assert split.summary.vocab_size == tokenizer.vocab_size
        # What evaluation counts as bytes of text is the text's.
        assert tokenizer.token_bytes()[split.tokens].sum() == split.summary.bytes


def test_a_single_document_is_found_in_three_parts(splits: Splits, tokenizer: Tokenizer) -> None:
    text = "\n".join(make_documents(100, seed=1))
    made = splits([text])
    assert "".join(texts(made[split], tokenizer)[0] for split in SPLITS) == text


def test_the_totals_are_those_of_the_splits(tokenizer: Tokenizer, tmp_path: Path) -> None:
    documents = make_documents(100, seed=1)
    totals = encode_corpus(lambda: documents, tokenizer, SPLIT, tmp_path)
    for split in SPLITS:
        mine = [text for text in documents if split_of(text, SPLIT) == split]
        assert totals[split]["documents"] == len(mine)
        assert totals[split]["bytes"] == sum(len(text.encode()) for text in mine)
        assert totals[split]["tokens"] == sum(len(tokenizer.encode(text)) + 1 for text in mine)


@pytest.mark.parametrize("missing", SPLITS)
def test_a_split_that_gets_nothing_is_an_error(
    tokenizer: Tokenizer, tmp_path: Path, missing: str
) -> None:
    documents = [t for t in make_documents(100, seed=1) if split_of(t, SPLIT) != missing]
    with pytest.raises(ValueError, match=f"^the {missing} split got none of {len(documents)} "):
        encode_corpus(lambda: documents, tokenizer, SPLIT, tmp_path)


def test_a_tokenizer_needs_text_to_learn_from() -> None:
    documents = [t for t in make_documents(100, seed=1) if split_of(t, SPLIT) != TRAIN]
    with pytest.raises(ValueError, match="no document is left for training"):
        make_tokenizer(lambda: documents, BPE, SPLIT)


@pytest.mark.usefixtures("tiktoken_cache")
def test_a_published_encoding_by_its_name() -> None:
    tokenizer = make_tokenizer(list, Tokenize(encoding="gpt2", vocab_size=400), SPLIT)
    assert tokenizer.vocab_size == 50257
