"""A corpus' documents into tokens on disk, each with the split that it belongs to."""

import hashlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyllm.common.files import checksums
from tinyllm.data.split_rule import SPLITS, TRAIN
from tinyllm.data.token_store import DOCUMENT, Tokens, TokenTotals, TokenWriter
from tinyllm.data.tokenize.batches import PIECE, Corpus
from tinyllm.data.tokenize.survey import Survey, labelled
from tinyllm.data.tokenize.workers import Workers
from tinyllm.data.tokenizer import LEARNABLE, Tokenizer

if TYPE_CHECKING:  # a worker process starts in two thirds of the time without pydantic
    from tinyllm.settings.tokenize import Tokenize


def make_tokenizer(corpus: Corpus, found: Survey, settings: "Tokenize") -> Tokenizer:
    """The encoding that params.yaml names; `bpe` is learned from training documents only.

    Raises:
        ValueError: the encoding is unknown or can't be had.
    """
    if settings.encoding != "bpe":
        return Tokenizer.named(settings.encoding)
    share = min(settings.sample_bytes or LEARNABLE, LEARNABLE) / found.bytes[TRAIN]
    while next(_sample(corpus, found, share), None) is None:
        share *= 2  # so few and long texts that none was drawn
    return Tokenizer.train(_sample(corpus, found, share), settings.vocab_size)


def _sample(corpus: Corpus, found: Survey, share: float) -> Iterator[str]:
    """About a share of the training text, drawn by content: all of it from 1 on.

    Documents are drawn, and pieces of those longer than PIECE characters.
    """
    train = SPLITS.index(TRAIN)
    for code, (text, _) in labelled(corpus, found):
        if code == train and (share >= 1 or _position(text) < share):
            yield text


def _position(text: str) -> float:
    """A number from 0 to 1 that follows from a text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"sample")
    return int.from_bytes(digest.digest(), "big") / 2**64


# ----- encoding


class _Batch(NamedTuple):
    """Texts to encode.

    Attributes:
        texts: documents, the first of which may be only the end of one; or a piece before the end.
        codes: of each document that ends, its split as an index into SPLITS.
    """

    texts: list[str]
    codes: list[int]


class _Encoded(NamedTuple):
    """The ids of a batch, one text after the other, and each text's tokens and bytes."""

    ids: Tokens
    tokens: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]


def encode_corpus(
    corpus: Corpus, found: Survey, tokenizer: Path, folder: Path, workers: Workers
) -> TokenTotals:
    """Write every document's tokens, <|endoftext|> after each, to a token folder.

    Args:
        tokenizer: the folder of a saved one, which the workers load.
    """
    loaded = _load(tokenizer, _identity(tokenizer))
    encode = partial(_encode, tokenizer, _identity(tokenizer))
    tokens = n_bytes = 0  # of a document that is not yet at its end
    with TokenWriter(folder, loaded.vocab_size, loaded.dtype, found.documents) as writer:
        for batch, encoded in workers.map(encode, _batches(corpus, found)):
            documents = np.zeros(len(batch.codes), dtype=DOCUMENT)
            if batch.codes:
                documents["split"] = batch.codes
                documents["tokens"], documents["bytes"] = encoded.tokens, encoded.bytes
                documents["tokens"][0] += tokens
                documents["bytes"][0] += n_bytes
                tokens = n_bytes = 0
            else:
                tokens += int(encoded.tokens.sum())
                n_bytes += int(encoded.bytes.sum())
            writer.add(encoded.ids, documents)
    return writer.totals


def _batches(corpus: Corpus, found: Survey) -> Iterator[_Batch]:
    texts: list[str] = []
    codes: list[int] = []
    held = 0
    for code, (text, last) in labelled(corpus, found):
        if last:
            texts.append(text)
            codes.append(code)
            held += len(text)
        if texts and (held >= PIECE or not last):
            yield _Batch(texts, codes)
            texts, codes, held = [], [], 0
        if not last:
            yield _Batch([text], [])
    if texts:
        yield _Batch(texts, codes)


def _identity(tokenizer: Path) -> str:
    """What a saved tokenizer is, wherever it lies."""
    return repr(checksums(tokenizer))


@cache
def _load(tokenizer: Path, identity: str) -> Tokenizer:  # noqa: ARG001 (part of the cache's key)
    """Load a tokenizer once in a process; it takes as long as encoding some megabytes."""
    return Tokenizer.load(tokenizer)


def _encode(tokenizer: Path, identity: str, batch: _Batch) -> _Encoded:
    loaded = _load(tokenizer, identity)
    sizes = [len(text) if text.isascii() else len(text.encode()) for text in batch.texts]
    if batch.codes:
        ids = loaded.encode_documents(batch.texts)
        ends = np.flatnonzero(ids == loaded.end_of_text) + 1
    else:
        ids = loaded.encode(batch.texts[0])
        ends = np.array([len(ids)])
    return _Encoded(ids, np.diff(ends, prepend=0), np.array(sizes))
