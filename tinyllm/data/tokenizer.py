"""Convert text to token ids and back with tiktoken; a trained vocabulary or a published one."""

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiktoken

from tinyllm.common.files import checked, read_json, seal, write_json, write_text
from tinyllm.common.vocabulary import END_OF_TEXT, N_BYTES

RANKS = "vocabulary.tiktoken"
DESCRIPTION = "encoding.json"

# How text is split into pieces, inside which tokens are merged: Llama 3's expression, in the form
# that llama.cpp uses. llama.cpp knows a fixed list of expressions by name; a GGUF file names one in
# tokenizer.ggml.pre. Of those that give the same ids there as in tiktoken, this one gives the
# fewest bits per byte (docs/log.md). The letters after an apostrophe are spelled out because
# (?i:s) also matches U+017F, which llama.cpp's code does not.
LLAMA_CPP_NAME = "llama-bpe"
PATTERN = "|".join(
    [
        r"'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

LARGEST_VOCABULARY = 1 << 31  # ids
LEARNABLE = 2_000_000_000  # bytes to train on; pairs are counted in signed 32 bits
AT_ONCE = 1024  # texts in memory while their parts are counted

# A run of white space, of letters and digits, or of signs; training keeps the first part.
LONGEST_RUN = 1000
_LONG_RUN = re.compile(r"(\s{1000})\s+|(\w{1000})\w+|([^\s\w]{1000})[^\s\w]+")

# Longest white space that every pattern handles; they overflow at some 500,000 characters.
LONGEST_SPACE = 100_000


class Tokenizer:
    """A byte-level tiktoken encoding: any text can be encoded, and is decoded byte for byte."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.encoding = encoding

    @classmethod
    def train(cls, documents: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Train a byte-level BPE of at most `vocab_size` tokens, including <|endoftext|>.

        A small text yields fewer tokens. Of equally frequent pairs, the one with the lower ids is
        merged first. The documents contain at most `LEARNABLE` bytes.
        """
        from rustbpe import Tokenizer as Learner

        learner = Learner()
        # Each merge scans whole parts of text, and such a long run contains nothing to learn.
        texts = map(_shorten_runs, documents)
        learner.train_from_iterator(texts, vocab_size - 1, AT_ONCE, quicker(PATTERN))
        ranks = {bytes(token): rank for token, rank in learner.get_mergeable_ranks()}
        assert max(ranks.values()) == len(ranks) - 1  # no two merges give the same token
        return cls(
            tiktoken.Encoding(
                name=f"bpe-{len(ranks) + 1}",
                pat_str=PATTERN,
                mergeable_ranks=ranks,
                special_tokens={END_OF_TEXT: len(ranks)},
            )
        )

    @classmethod
    def named(cls, name: str) -> "Tokenizer":
        """Load a published tiktoken encoding, like "gpt2".

        Raises:
            ValueError: Its file can't be downloaded.
        """
        try:
            encoding = tiktoken.get_encoding(name)
        except OSError as error:  # requests' errors are OSErrors
            raise ValueError(
                f"tokenize.encoding = {name!r}: its vocabulary could not be downloaded; without a "
                f"network, fill the folder of TIKTOKEN_CACHE_DIR ({error})"
            ) from None
        return cls(encoding)

    def encodes_like(self, other: "Tokenizer") -> bool:
        """Return whether another tokenizer gives every text the same ids."""
        own, its = self.encoding, other.encoding
        return (own._pat_str, own._mergeable_ranks, own._special_tokens) == (
            its._pat_str, its._mergeable_ranks, its._special_tokens
        )  # fmt: skip

    @cached_property
    def vocab_size(self) -> int:
        """Number of ids (V), including unused ones."""
        return self.encoding.n_vocab

    @cached_property
    def end_of_text(self) -> int:
        """Id of the token that ends every document."""
        return self.encoding.eot_token

    @cached_property
    def _used(self) -> frozenset[int]:
        """Ids that stand for something; published encodings like cl100k_base have unused ones."""
        encoding = self.encoding
        return frozenset([*encoding._mergeable_ranks.values(), *encoding._special_tokens.values()])

    @cached_property
    def dtype(self) -> type[np.unsignedinteger]:
        """The smallest unsigned type for every id."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    @cached_property
    def _encoder(self) -> tiktoken.Encoding:
        """The encoding with an expression that finds the same parts faster."""
        encoding = self.encoding
        return tiktoken.Encoding(
            encoding.name,
            pat_str=quicker(encoding._pat_str),
            mergeable_ranks=encoding._mergeable_ranks,
            special_tokens=encoding._special_tokens,
        )

    def encode(self, text: str) -> npt.NDArray[np.unsignedinteger]:
        """Encode a text (N,); text that looks like a special token is ordinary text."""
        try:
            tokens = self._encode(text)
        except ValueError:  # tiktoken's regular expressions overflow on very long white space
            tokens = np.concatenate([self._encode(piece) for piece in _cut_long_space(text)])
        return tokens.astype(self.dtype)

    def encode_documents(self, texts: Sequence[str]) -> npt.NDArray[np.unsignedinteger]:
        """Encode texts (N,), each followed by <|endoftext|>, concatenated.

        Gives the same ids as encoding each text separately, in one call: tiktoken splits text at a
        special token, so nothing is merged across it.
        """
        if any(END_OF_TEXT in text for text in texts):  # here it is ordinary text
            return np.concatenate([self._ended(text) for text in texts])
        joined = "".join(f"{text}{END_OF_TEXT}" for text in texts)
        allowed = {END_OF_TEXT}
        try:
            tokens = self._encoder.encode_to_numpy(
                joined, allowed_special=allowed, disallowed_special=()
            )
        except ValueError:  # see encode
            return np.concatenate([self._ended(text) for text in texts])
        return tokens.astype(self.dtype)

    def _ended(self, text: str) -> npt.NDArray[np.unsignedinteger]:
        return np.append(self.encode(text), self.dtype(self.end_of_text))

    def _encode(self, text: str) -> npt.NDArray[np.uint32]:
        return self._encoder.encode_to_numpy(text, disallowed_special=())

    def decode(self, tokens: Iterable[int]) -> str:
        """Decode token ids; bytes that are invalid UTF-8 become the replacement character."""
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """Decode token ids to bytes; an unused id stands for none."""
        return self.encoding.decode_bytes([token for token in tokens if token in self._used])

    def token_bytes(self) -> npt.NDArray[np.int64]:
        """Return the number of bytes of each id (V,); 0 for special and unused ids."""
        sizes = np.zeros(self.vocab_size, dtype=np.int64)
        for token, rank in self.encoding._mergeable_ranks.items():
            sizes[rank] = len(token)
        return sizes

    def save(self, folder: Path) -> None:
        """Write the vocabulary in tiktoken's text format, and the other parts of the encoding."""
        folder.mkdir(parents=True, exist_ok=True)
        ranks = sorted(self.encoding._mergeable_ranks.items(), key=lambda item: item[1])
        lines = [f"{b2a_base64(token, newline=False).decode()} {rank}\n" for token, rank in ranks]
        write_text(folder / RANKS, "".join(lines))
        write_json(
            folder / DESCRIPTION,
            {
                "name": self.encoding.name,
                "pattern": self.encoding._pat_str,
                "special_tokens": self.encoding._special_tokens,
                "vocab_size": self.vocab_size,
            },
        )
        seal(folder)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            ValueError: The folder is missing or corrupt.
        """
        path = checked(folder, DESCRIPTION)
        description = read_json(path)
        ranks = _read_ranks(checked(folder, RANKS))
        if fault := _fault_of(description, ranks):
            raise ValueError(f"{path}: {fault}")
        try:
            encoding = tiktoken.Encoding(
                name=description["name"],
                pat_str=description["pattern"],
                mergeable_ranks=ranks,
                special_tokens=description["special_tokens"],
            )
        except ValueError as error:
            raise ValueError(f"{path}: pattern: {error}") from None
        return cls(encoding)


def _read_ranks(path: Path) -> dict[bytes, int]:
    """Read tokens and their ids; tiktoken itself would end the program if they are wrong.

    Raises:
        ValueError: A line is invalid, two tokens have the same id, or a byte has no token.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[a2b_base64(token, strict_mode=True)] = int(rank)
        except ValueError:
            raise ValueError(f"{path}, line {number}: must be a base64 token and an id") from None
    ids = set(ranks.values())
    if len(ids) < len(ranks):
        raise ValueError(f"{path}: several tokens have the same id")
    if missing := [byte for byte in range(N_BYTES) if bytes([byte]) not in ranks]:
        raise ValueError(f"{path}: the byte {missing[0]} has no token")
    if min(ids) < 0 or max(ids) >= LARGEST_VOCABULARY:
        raise ValueError(f"{path}: ids must be from 0 to {LARGEST_VOCABULARY - 1}")
    return ranks


def _fault_of(description: object, ranks: dict[bytes, int]) -> str | None:
    """Return what is wrong with an encoding's description; None if it fits the tokens."""
    if not isinstance(description, dict):
        return "must be an object"
    for key, kind in {
        "name": str,
        "pattern": str,
        "special_tokens": dict,
        "vocab_size": int,
    }.items():
        if not isinstance(description.get(key), kind):
            return f"{key} is {description.get(key)!r}, must be of the type {kind.__name__}"
    special = description["special_tokens"]
    ids = {*ranks.values()}
    for text, number in special.items():
        if type(number) is not int or not 0 <= number < LARGEST_VOCABULARY or number in ids:
            return f"special_tokens: the id of {text} is {number!r}, must be an unused number"
        ids.add(number)
    if END_OF_TEXT not in special:
        return f"special_tokens: {END_OF_TEXT} is missing"
    if description["vocab_size"] != max(ids) + 1:
        return f"vocab_size is {description['vocab_size']}, but {RANKS} has {max(ids) + 1} ids"
    return None


def _shorten_runs(text: str) -> str:
    """Shorten the long runs of a text for training.

    A run contains a stretch of half its length that is all white space or has none: nearly no text
    is searched for more.
    """
    if len(text) <= LONGEST_RUN:
        return text
    step = LONGEST_RUN // 2
    stretches = (text[i : i + step] for i in range(0, len(text) - step + 1, step))
    if any(" " not in stretch or stretch.isspace() for stretch in stretches):
        return _LONG_RUN.sub(r"\1\2\3", text)
    return text


def quicker(pattern: str) -> str:
    """Return an expression that splits text like tiktoken's, or ours, in two thirds of the time.

    tiktoken uses a backtracking engine step by step for features that only it supports, and a
    linear engine for the rest. So possessive quantifiers are removed (in these expressions, none
    could give anything back), and everything without look-ahead becomes one group.
    """
    plain = re.sub(r"(?<=[+*?])\+|(?<=\d\})\+", "", pattern)
    before, ahead, after = plain.partition(r"|\s+(?!\S)")
    return f"(?:{before}){ahead}{after}" if ahead else plain


def _cut_long_space(text: str) -> list[str]:
    """Cut a text at every `LONGEST_SPACE` characters of white space."""
    spaces = re.finditer(rf"\s{{1,{LONGEST_SPACE}}}", text)
    cuts = [space.end() for space in spaces if len(space[0]) == LONGEST_SPACE]
    return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
