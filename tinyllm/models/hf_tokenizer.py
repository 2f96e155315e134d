"""Writes a tiktoken encoding as tokenizer files for `transformers` and compatible libraries.

Hugging Face represents each byte of a token by one printable character, as in GPT-2's table: a
printable Latin-1 byte by itself, the others by the characters from U+0100 on.

Two things differ from the encoding. The tokenizer puts <|endoftext|> before a text, as it stands
before each document in training: without it, the default model's loss over the first 40 tokens of
a document is 0.17 nats per token higher (docs/log.md). And it has a token for padding.
"""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import tiktoken

from tinyllm.common.files import write_json, write_text
from tinyllm.common.vocabulary import END_OF_TEXT, N_BYTES

# The byte FF occurs in no UTF-8 text, so no text has its token, and its id is free for padding.
# Padding with <|endoftext|> instead would hide the ends of documents from fine-tuning: the usual
# data collators of transformers and trl ignore targets that are padding.
PAD, UNUSED_BYTE = "<|pad|>", b"\xff"

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
    """A token's bytes as Hugging Face's characters."""
    characters = byte_characters()
    return "".join(characters[byte] for byte in token)


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of tokens that merges into a third, in tiktoken's order of merging.

    tiktoken merges the neighbours that give the token of the lowest rank; Hugging Face merges by a
    list of pairs. Both agree if the list has all pairs of each token, in the order of its rank.
    """
    pairs = []
    for token, rank in ranks.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ranks and right in ranks:
                pairs.append((rank, ranks[left], ranks[right], left, right))
    return [(left, right) for *_, left, right in sorted(pairs)]


def pre_tokenizer(pattern: str) -> "PreTokenizer":
    """The pre-tokenizer that splits text like tiktoken's regular expression.

    In cl100k_base, the `+` of `{1,3}+` is possessive for tiktoken, but means "once or more" for
    Oniguruma, which would not split long numbers. It is removed, which changes no match.
    """
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(re.sub(r"(?<=\d\})\+", "", pattern)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def special_ids(encoding: tiktoken.Encoding) -> dict[str, int]:
    """The ids of special tokens, under their names in transformers' configurations."""
    return {
        "bos_token_id": encoding.eot_token,
        "eos_token_id": encoding.eot_token,
        "pad_token_id": encoding._mergeable_ranks[UNUSED_BYTE],
    }


def write_tokenizer(folder: Path, encoding: tiktoken.Encoding, context_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json, which produce the encoding's ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from tokenizers.processors import TemplateProcessing

    ranks = encoding._mergeable_ranks
    special = {**encoding._special_tokens, PAD: ranks[UNUSED_BYTE]}
    vocabulary = {PAD if t == UNUSED_BYTE else to_text(t): rank for t, rank in ranks.items()}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[
                (to_text(left), to_text(right))
                for left, right in merges(ranks)
                if UNUSED_BYTE not in (left, right)
            ],
            ignore_merges=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizer(encoding._pat_str)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False) for text in sorted(special, key=special.__getitem__)]
    )
    tokenizer.post_processor = TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A {END_OF_TEXT}:1 $B:1",
        special_tokens=[(END_OF_TEXT, encoding.eot_token)],
    )
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "pad_token": PAD,
            "add_bos_token": True,
            "clean_up_tokenization_spaces": False,
            "padding_side": "left",  # generation continues a text, not its padding
            "model_max_length": context_length,
            # Without it, transformers 4 also returns token_type_ids, which `generate` refuses.
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )
