"""The model folder's tokenizer produces the same ids in Hugging Face's tokenizers library."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from tests.helpers import make_documents, many_texts
from tinyllm.common.vocabulary import END_OF_TEXT
from tinyllm.data.tokenizer import PATTERN, Tokenizer
from tinyllm.models.hf_tokenizer import write_tokenizer


@pytest.fixture(scope="module")
def byte_pairs() -> Tokenizer:
    """A tokenizer that merges any two bytes, so that the ids show where text is split.

    A trained vocabulary has few tokens for rare characters: its ids are single bytes, split or not.
    """
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [left + right for left, right in product(tokens, tokens)]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return Tokenizer(
        tiktoken.Encoding(
            "byte pairs",
            pat_str=PATTERN,
            mergeable_ranks=ranks,
            special_tokens={END_OF_TEXT: len(ranks)},
        )
    )


def assert_same_ids(tokenizer: Tokenizer, other: Any, texts: list[str]) -> None:
    """Check that `other`, of the tokenizers library, agrees on every text."""
    for text, found in zip(texts, other.encode_batch(texts), strict=True):
        assert found.ids == [tokenizer.end_of_text, *tokenizer.encode(text).tolist()], repr(text)
        assert other.decode(found.ids[1:], skip_special_tokens=False) == text


def test_tokenizer_json_produces_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Other

    write_tokenizer(tmp_path, tokenizer.encoding, context_length=64)
    other = Other.from_file(str(tmp_path / "tokenizer.json"))
    assert_same_ids(tokenizer, other, many_texts(3000))
    assert other.get_vocab_size() == tokenizer.vocab_size


@pytest.mark.parametrize("digits", ["{1,2}+", "{1,3}+", "{1,3}"])
def test_tokenizer_json_splits_numbers_like_tiktoken(tmp_path: Path, digits: str) -> None:
    """Even if the vocabulary has the whole number, which tiktoken never produces."""
    from tokenizers import Tokenizer as Other

    ranks = {bytes([byte]): byte for byte in range(256)}
    for token in (b"20", b"18", b"201", b"2018", b"00", b"000", b"0000", b"000000"):
        ranks[token] = len(ranks)
    encoding = tiktoken.Encoding(
        "digits",
        pat_str=rf"\p{{N}}{digits}|\P{{N}}++",
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: len(ranks)},
    )
    write_tokenizer(tmp_path, encoding, context_length=64)
    other = Other.from_file(str(tmp_path / "tokenizer.json"))
    assert_same_ids(Tokenizer(encoding), other, ["2018", "in 2018, 20180 or 000000000 2"])


def test_tokenizer_json_splits_text_like_tiktoken(byte_pairs: Tokenizer, tmp_path: Path) -> None:
    """For every character: both split by Unicode classes, each with its own tables."""
    from tokenizers import Tokenizer as Other

    write_tokenizer(tmp_path, byte_pairs.encoding, context_length=64)
    other = Other.from_file(str(tmp_path / "tokenizer.json"))
    # The basic plane without most of Chinese and Korean, and some characters outside it.
    codes = [*range(0x4E00), *range(0x4E00, 0xD800, 20), *range(0xF900, 0x33500, 17)]
    odd = [f"a{chr(c)}b {chr(c)}1{chr(c)}{chr(c)}'{chr(c)}b" for c in codes]
    assert_same_ids(byte_pairs, other, odd + many_texts(1000))


def test_tokenizer_json_has_tokens_that_no_merge_produces(tmp_path: Path) -> None:
    """In tiktoken, a whole piece of text may be a token although its halves are not."""
    from tokenizers import Tokenizer as Other

    ranks = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256, b"ca": 257}
    odd = Tokenizer(
        tiktoken.Encoding(
            "odd",
            pat_str=r"\p{L}++|\P{L}++",
            mergeable_ranks=ranks,
            special_tokens={END_OF_TEXT: 258},
        )
    )
    write_tokenizer(tmp_path, odd.encoding, context_length=64)
    other = Other.from_file(str(tmp_path / "tokenizer.json"))
    assert odd.encode("abc").tolist() == [256]
    assert_same_ids(odd, other, ["abc", "abcabc", "abc abc", "ca", "bca", "cabc"])


@pytest.mark.usefixtures("tiktoken_cache")
def test_tokenizer_json_of_gpt2(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Other

    gpt2 = Tokenizer.named("gpt2")
    write_tokenizer(tmp_path, gpt2.encoding, context_length=1024)
    other = Other.from_file(str(tmp_path / "tokenizer.json"))
    texts = [text for text in many_texts(3000) if len(text) < 1000]
    assert_same_ids(gpt2, other, texts + make_documents(200, seed=3))


def test_transformers_loads_it(byte_pairs: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path, byte_pairs.encoding, context_length=1_000_000)
    other = AutoTokenizer.from_pretrained(tmp_path)
    for text in many_texts(1000):
        ids = byte_pairs.encode(text).tolist()
        assert other(text)["input_ids"] == [byte_pairs.end_of_text, *ids]
        assert other(text, add_special_tokens=False)["input_ids"] == ids
        assert other.decode(ids) == text
    assert other.eos_token_id == other.bos_token_id == byte_pairs.end_of_text
    assert other.model_max_length == 1_000_000
    end = other(END_OF_TEXT, add_special_tokens=False)["input_ids"]
    assert end == [byte_pairs.end_of_text]  # special in transformers
    assert other(text).keys() == {"input_ids", "attention_mask"}


def test_a_pair_of_texts_is_two_documents(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path, tokenizer.encoding, context_length=64)
    other = AutoTokenizer.from_pretrained(tmp_path)
    end, one, two = tokenizer.end_of_text, tokenizer.encode("one"), tokenizer.encode("two")
    assert other("one", "two")["input_ids"] == [end, *one.tolist(), end, *two.tolist()]


def test_no_text_has_the_token_for_padding(byte_pairs: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path, byte_pairs.encoding, context_length=64)
    other = AutoTokenizer.from_pretrained(tmp_path)
    assert other.pad_token_id == byte_pairs.encoding._mergeable_ranks[b"\xff"]
    assert other.pad_token_id not in (other.eos_token_id, other.vocab_size)
    assert len(other) == byte_pairs.vocab_size  # the model has a row for each
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    assert other.pad_token_id not in other(every)["input_ids"]
    assert other.decode([other.pad_token_id], skip_special_tokens=True) == ""


def test_the_files_have_the_same_bytes_every_time(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_tokenizer(tmp_path / name, tokenizer.encoding, context_length=64)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
