"""A tiktoken encoding in the files that `transformers` and its relatives load a tokenizer from.

Hugging Face writes the bytes of a token as printable characters, one each: a printable Latin-1 byte
as itself, the others as the characters from U+0100 on. That is GPT-2's table.
"""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import tiktoken

from tinyllm.common.files import write_json, write_text
from tinyllm.common.vocabulary import END_OF_TEXT, N_BYTES

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer


@cache
def byte_characters() -> list[str]:
    """The printable character for each of the 256 byte values."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(N_BYTES) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table |= {byte: chr(N_BYTES + i) for i, byte in enumerate(others)}
    return [table[byte] for byte in range(N_BYTES)]


def to_text(token: bytes) -> str:
    """A token's bytes in Hugging Face's characters."""
    characters = byte_characters()
    return "".join(characters[byte] for byte in token)


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of tokens that joins into a third, in tiktoken's order of merging.

    tiktoken joins whichever neighbours give the token of the lowest rank; Hugging Face joins by a
    list of pairs. All the pairs that give a token, in order of its rank, make the two agree.
    """
    pairs = []
    for token, rank in ranks.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ranks and right in ranks:
                pairs.append((rank, ranks[left], ranks[right], left, right))
    return [(left, right) for *_, left, right in sorted(pairs)]


def pre_tokenizer(pattern: str) -> "PreTokenizer":
    """What cuts text, before anything is merged, where tiktoken does with an expression.

    In cl100k_base, the `+` of `{1,3}+` is possessive for tiktoken, but means "once or more"
    for Oniguruma, which would leave long numbers whole. It is removed; it changes no match.
    """
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(re.sub(r"(?<=\d\})\+", "", pattern)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def write_tokenizer(folder: Path, encoding: tiktoken.Encoding, context_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json, which give the same ids as the encoding."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    ranks = encoding._mergeable_ranks
    tokenizer = Tokenizer(
        models.BPE(
            vocab={to_text(token): rank for token, rank in ranks.items()},
            merges=[(to_text(left), to_text(right)) for left, right in merges(ranks)],
            ignore_merges=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizer(encoding._pat_str)
    tokenizer.decoder = decoders.ByteLevel()
    special = sorted(encoding._special_tokens.items(), key=lambda item: item[1])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text, _ in special])
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
            "padding_side": "left",  # a text is continued after its last token, not after padding
            "model_max_length": context_length,
        },
    )
