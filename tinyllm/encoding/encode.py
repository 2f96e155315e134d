"""A corpus' documents into tokens on disk, each with the split that it belongs to."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from tinyllm.common.params import Split, Tokenize
from tinyllm.tokens.split import SPLITS, TRAIN, parts
from tinyllm.tokens.store import TokenWriter
from tinyllm.tokens.tokenizer import Tokenizer

Documents = Callable[[], Iterable[str]]  # opens the corpus anew at each call


def make_tokenizer(documents: Documents, settings: Tokenize, split: Split) -> Tokenizer:
    """The encoding that params.yaml names; `bpe` is learned from training documents only.

    Raises:
        ValueError: the encoding is unknown, can't be had, or no text is left to learn from.
    """
    if settings.encoding != "bpe":
        return Tokenizer.named(settings.encoding)
    training = (part.text for part in parts(documents(), split) if part.split == TRAIN)
    return Tokenizer.train(_not_empty(training), settings.vocab_size)


def _not_empty(texts: Iterator[str]) -> Iterator[str]:
    first = next(texts, None)
    if not first:
        raise ValueError("no document is left for training: " + _ADVICE)
    yield first
    yield from texts


def encode_corpus(
    documents: Documents, tokenizer: Tokenizer, split: Split, folder: Path
) -> dict[str, Counter[str]]:
    """Write every document's tokens, <|endoftext|> after each, to a token folder.

    Returns:
        for each split its "documents", "tokens" and "bytes".

    Raises:
        ValueError: a split gets nothing.
    """
    totals = {name: Counter[str]() for name in SPLITS}
    with TokenWriter(folder, tokenizer.vocab_size, tokenizer.dtype) as writer:
        for part in parts(documents(), split):
            tokens = np.append(tokenizer.encode(part.text), tokenizer.dtype(tokenizer.end_of_text))
            size = len(part.text.encode())
            writer.add(tokens, size, part.split)
            totals[part.split].update(documents=1, tokens=len(tokens), bytes=size)
        for name in SPLITS:
            if not totals[name]["bytes"]:
                count = sum(total["documents"] for total in totals.values())
                raise ValueError(f"the {name} split got none of {count} document(s): " + _ADVICE)
    return totals


_ADVICE = (
    "raise split.validation_fraction or split.test_fraction, or cut the text into more documents "
    'with download.separator, like "\\n\\n"'
)
