"""Text to tokens and back, without loss."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

from tests.helpers import (
    AWKWARD,
    ROOT,
    flip_bit,
    make_documents,
    many_texts,
    random_text,
)
from tinyllm.common.vocabulary import END_OF_TEXT
from tinyllm.data.tokenizer import PATTERN, Tokenizer


def assert_comes_back(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokens.dtype == tokenizer.dtype
    assert tokenizer.decode_bytes(tokens.tolist()) == text.encode()
    assert tokenizer.decode(tokens.tolist()) == text
    assert tokenizer.token_bytes()[tokens].sum() == len(text.encode())


# ----- round trip


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_is_restored(tokenizer: Tokenizer, text: str) -> None:
    assert_comes_back(tokenizer, text)


def test_any_text_is_restored(tokenizer: Tokenizer) -> None:
    chance = random.Random(1)
    for _ in range(1500):
        assert_comes_back(tokenizer, random_text(chance))


@pytest.mark.parametrize("space", [" ", "\n", " \n", "\u3000"])
def test_a_million_spaces_are_restored(tokenizer: Tokenizer, space: str) -> None:
    """They make tiktoken's regular expressions overflow."""
    assert_comes_back(tokenizer, f"a {space * 1_000_000}b 1{space * 100_000} ")


def test_training_on_a_million_spaces() -> None:
    Tokenizer.train(["ab ab", f"a{' ' * 1_000_000}b"], 300)


def test_half_of_a_surrogate_pair_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        tokenizer.encode("a\ud800b")


@pytest.mark.parametrize("text", [END_OF_TEXT, "a<|endoftext|>b", "<|im_start|>", "<|endoftext"])
def test_what_looks_like_a_special_token_is_text(tokenizer: Tokenizer, text: str) -> None:
    assert_comes_back(tokenizer, text)
    assert tokenizer.end_of_text not in tokenizer.encode(text)


def test_invalid_utf8_is_decoded_to_replacement_characters(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("é").tolist()
    assert tokenizer.decode(tokens[:1]) == "\ufffd"


def test_unused_ids_decode_to_nothing() -> None:
    """For example in cl100k_base: a model can still generate one."""
    gap = Tokenizer(
        tiktoken.Encoding(
            "gap",
            pat_str=r"\p{L}+|\P{L}+",
            mergeable_ranks={bytes([byte]): byte for byte in range(256)},
            special_tokens={END_OF_TEXT: 257, "<|other|>": 259},
        )
    )
    assert gap.vocab_size == 260
    assert gap.token_bytes()[256:].tolist() == [0, 0, 0, 0]
    assert gap.decode([97, 256, 258, 98]) == "ab"


# ----- training


def test_the_vocabulary_is_as_large_as_asked_and_begins_with_the_bytes(
    tokenizer: Tokenizer, documents: list[str]
) -> None:
    assert tokenizer.vocab_size == 320
    assert tokenizer.end_of_text == 319
    assert [tokenizer.decode_bytes([byte]) for byte in range(256)] == [
        bytes([byte]) for byte in range(256)
    ]
    text = "\n".join(documents)
    assert len(tokenizer.encode(text)) < 0.8 * len(text.encode())  # the training merged pairs


def test_each_merge_joins_the_most_frequent_pair() -> None:
    """Sennrich et al. 2016: this follows the definition, without optimizations."""
    chance = random.Random(5)
    texts = [*make_documents(12, seed=4), *(random_text(chance, 40) for _ in range(60))]
    texts += ["aaa aaaa aaaaa\n\n\n\n", "    if x:\n        return 2018, 日本語日本"] * 5
    learned = Tokenizer.train(texts, 400).encoding._mergeable_ranks
    parts = Counter(part for text in texts for part in regex.findall(PATTERN, text))
    words = [(list(part.encode()), count) for part, count in parts.items()]
    ids: dict[int, bytes] = {byte: bytes([byte]) for byte in range(256)}
    for new in range(256, len(learned)):
        pairs: Counter[tuple[int, int]] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                pairs[pair] += count
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        ids[new] = ids[left] + ids[right]
        assert learned[ids[new]] == new
        for word, _ in words:
            for index in range(len(word) - 1):
                if word[index : index + 2] == [left, right]:
                    word[index : index + 2] = [new]
    assert len(learned) == 399


def test_every_trained_number_is_used() -> None:
    """No number is longer than the parts that the text is split into, or it would never occur."""
    years = "".join(f"In {year} there were 10000{year} of them. " for year in range(1990, 2030))
    learned = Tokenizer.train([years * 20], 400)
    numbers = [token for token in learned.encoding._mergeable_ranks if token.isdigit()]
    assert any(len(number) == 3 for number in numbers)
    assert not [number for number in numbers if len(number) > 3]


def test_a_small_text_gives_fewer_tokens() -> None:
    small = Tokenizer.train(["abab abab"], 1000)
    assert 257 < small.vocab_size < 270
    assert small.end_of_text == small.vocab_size - 1
    assert_comes_back(small, "abab abab and more")


def test_ids_take_two_bytes_where_they_fit(tokenizer: Tokenizer) -> None:
    assert tokenizer.dtype is np.uint16


SCRIPT = """
import json, sys
from pathlib import Path
from tinyllm.data.tokenizer import PATTERN, Tokenizer
documents = json.loads(Path(sys.argv[1]).read_text())
Tokenizer.train(documents, 500).save(Path(sys.argv[2]))
"""


def test_training_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "documents.json").write_text(json.dumps(make_documents(400, seed=2)))
    digests = []
    for hash_seed, threads in [("0", "1"), ("4242", "4")]:
        out = tmp_path / hash_seed
        subprocess.run(
            [sys.executable, "-c", SCRIPT, tmp_path / "documents.json", out],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": threads},
            cwd=ROOT,
            check=True,
        )
        content = b"".join(path.read_bytes() for path in sorted(out.iterdir()))
        digests.append(hashlib.sha256(content).hexdigest())
    assert digests[0] == digests[1]


# ----- on disk


def test_a_saved_tokenizer_is_loaded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "one")
    loaded = Tokenizer.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.end_of_text == tokenizer.end_of_text
    chance = random.Random(3)
    for text in [*AWKWARD, *(random_text(chance) for _ in range(300))]:
        assert np.array_equal(loaded.encode(text), tokenizer.encode(text))


def test_tiktoken_itself_reads_the_vocabulary(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from tiktoken.load import load_tiktoken_bpe

    tokenizer.save(tmp_path)
    ranks = load_tiktoken_bpe(str(tmp_path / "vocabulary.tiktoken"))
    assert ranks == tokenizer.encoding._mergeable_ranks


def test_a_corrupt_vocabulary_is_found(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "good")
    chance = random.Random(4)
    size = (tmp_path / "good" / "vocabulary.tiktoken").stat().st_size
    for position in [0, size - 1, *(chance.randrange(size) for _ in range(20))]:
        shutil.copytree(tmp_path / "good", tmp_path / "bad", dirs_exist_ok=True)
        flip_bit(tmp_path / "bad" / "vocabulary.tiktoken", position)
        with pytest.raises(ValueError, match=r"vocabulary\.tiktoken is corrupt"):
            Tokenizer.load(tmp_path / "bad")
    for name, message in [("vocabulary.tiktoken", "missing"), ("encoding.json", "missing")]:
        shutil.copytree(tmp_path / "good", tmp_path / "bad", dirs_exist_ok=True)
        (tmp_path / "bad" / name).unlink()
        with pytest.raises(ValueError, match=message):
            Tokenizer.load(tmp_path / "bad")


# ----- published encodings


def test_an_error_without_network_and_cache_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nothing listens there
    with pytest.raises(ValueError, match=r"^[^\n]*'p50k_edit': .*TIKTOKEN_CACHE_DIR[^\n]*$"):
        Tokenizer.named("p50k_edit")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tiktoken_cache")
def test_gpt2(tmp_path: Path) -> None:
    gpt2 = Tokenizer.named("gpt2")
    assert (gpt2.vocab_size, gpt2.end_of_text, gpt2.dtype) == (50257, 50256, np.uint16)
    assert gpt2.encode("Hello, world").tolist() == [15496, 11, 995]
    for text in AWKWARD:
        assert_comes_back(gpt2, text)
    gpt2.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.vocab_size == gpt2.vocab_size
    assert np.array_equal(loaded.encode("Hello, world"), gpt2.encode("Hello, world"))


# ----- the expression that splits text

ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERNS = {
    "ours": PATTERN,
    "r50k_base": r50k_pat_str,
    "cl100k_base": "|".join(
        [
            r"'(?i:[sdmt]|ll|ve|re)",
            r"[^\r\n\p{L}\p{N}]?+\p{L}++",
            r"\p{N}{1,3}+",
            r" ?[^\s\p{L}\p{N}]++[\r\n]*+",
            r"\s++$",
            r"\s*[\r\n]",
            r"\s+(?!\S)",
            r"\s",
        ]
    ),
    "o200k_base": "|".join(
        [
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
            + ENDING,
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
            + ENDING,
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
    ),
}


# How llama.cpp splits these texts with the expression "llama-bpe". Recorded from its ids for a
# vocabulary that contains every substring of them (package xllamacpp 2026.10.11549).
CUT_BY_LLAMA_CPP = [
    "it|'s| IT|'S|a| we|'LL|b| '|Twas| ''|ll",
    "it|'\u017fa",  # U+017F is an S if case is ignored
    "1|a|123|456|7| |202|4|-|11|.|5½٣|Ⅷ9",
    "x| =| | y|;\n\n|\treturn| x|**|2",
    "a| \n \n|  | b|   ",
    '.\r\n|\u3000| c|("|d|")\n\n',
    "ée|\u0301日本|。ไทย| ह|िन|्द|ी",
    "\x00\x1f| a|\x85b|\xa0c| \u200b|d",
    "_a| __|b|\n\n\n| | c",
    "a| \n|  ",
]


@pytest.mark.parametrize("marked", CUT_BY_LLAMA_CPP)
def test_text_is_split_as_in_llama_cpp(marked: str) -> None:
    pieces = [piece.encode() for piece in marked.split("|")]
    text = b"".join(pieces)
    parts = {text[a:b] for a in range(len(text)) for b in range(a + 2, len(text) + 1)}
    tokens = [*(bytes([byte]) for byte in range(256)), *sorted(parts)]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    whole = tiktoken.Encoding("whole", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    found = Tokenizer(whole).encode(marked.replace("|", ""))
    assert [tokens[token] for token in found] == pieces


def cutting(tokenizer: Tokenizer, pattern: str) -> tiktoken.Encoding:
    """Return an encoding with another expression and the tokenizer's tokens."""
    return tiktoken.Encoding(
        "other",
        pat_str=pattern,
        mergeable_ranks=tokenizer.encoding._mergeable_ranks,
        special_tokens=tokenizer.encoding._special_tokens,
    )


@pytest.mark.parametrize("name", PATTERNS)
def test_the_quicker_expression_gives_the_same_ids(tokenizer: Tokenizer, name: str) -> None:
    published = cutting(tokenizer, PATTERNS[name])
    quick = Tokenizer(published)
    texts = [*AWKWARD, *many_texts(4000), *make_documents(100, seed=3)]
    for text in texts:
        ids = published.encode_ordinary(text)
        assert quick.encode(text).tolist() == ids, repr(text)
    # All texts in one call, each followed by <|endoftext|>.
    together = [[*published.encode_ordinary(text), quick.end_of_text] for text in texts]
    assert quick.encode_documents(texts).tolist() == [token for ids in together for token in ids]
    special = ["a", "<|endoftext|>", " b"]
    assert quick.encode_documents(special).tolist() == [
        token for text in special for token in [*quick.encode(text).tolist(), quick.end_of_text]
    ]
