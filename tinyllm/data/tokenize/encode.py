"""Encode a corpus' documents to tokens on disk, each with its split."""

import hashlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyllm.common.files import checksums
from tinyllm.data.split_rule import SPLITS, TRAIN
from tinyllm.data.token_store import DOCUMENT, TextSource, Tokens, TokenTotals, TokenWriter
from tinyllm.data.tokenize.batches import PIECE, Corpus
from tinyllm.data.tokenize.survey import Survey, labelled
from tinyllm.data.tokenize.workers import Workers
from tinyllm.data.tokenizer import LEARNABLE, Tokenizer

if TYPE_CHECKING:  # without pydantic, a worker process starts in two thirds of the time
    from tinyllm.settings.tokenize import Tokenize


def make_tokenizer(corpus: Corpus, found: Survey, settings: "Tokenize") -> Tokenizer:
    """Return the tokenizer that params.yaml names; `bpe` is trained on training documents only.

    Raises:
        ValueError: The encoding is unknown or can't be downloaded.
    """
    if settings.encoding != "bpe":
        return Tokenizer.named(settings.encoding)
    share = min(settings.sample_bytes or LEARNABLE, LEARNABLE) / found.bytes[TRAIN]
    while next(_sample(corpus, found, share), None) is None:
        share *= 2  # no text was drawn: there are few and long ones
    return Tokenizer.train(_sample(corpus, found, share), settings.vocab_size)


def _sample(corpus: Corpus, found: Survey, share: float) -> Iterator[str]:
    """Yield about a share of the training text, drawn by content; all of it for a share of 1.

    Documents are drawn, and pieces of documents longer than PIECE characters.
    """
    train = SPLITS.index(TRAIN)
    for code, (text, _) in labelled(corpus, found):
        if code == train and (share >= 1 or _position(text) < share):
            yield text


def _position(text: str) -> float:
    """Return a number from 0 to 1 that depends on a text alone."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"sample")
    return int.from_bytes(digest.digest(), "big") / 2**64


# ----- encoding


class _Batch(NamedTuple):
    """Texts to encode.

    Attributes:
        texts: Documents, the first of which may be the end of one; or a piece before the end.
        codes: The split, as an index into SPLITS, of each document that ends.
    """

    texts: list[str]
    codes: list[int]


class _Encoded(NamedTuple):
    """The concatenated ids of a batch, and each text's tokens and bytes."""

    ids: Tokens
    tokens: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]


def encode_corpus(
    corpus: Corpus, found: Survey, tokenizer: Path, folder: Path, workers: Workers,
    text: TextSource | None = None,
) -> TokenTotals:  # fmt: skip
    """Write every document's tokens, followed by <|endoftext|>, to a token folder.

    Args:
        tokenizer: Folder of a saved tokenizer, which the workers load.
        text: Where the documents come from; None: not recorded.
    """
    loaded = _load(tokenizer, _identity(tokenizer))
    encode = partial(_encode, tokenizer, _identity(tokenizer))
    tokens = n_bytes = 0  # of the document that has not ended yet
    with TokenWriter(folder, loaded.vocab_size, loaded.dtype, found.documents, text) as writer:
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
    """Identify a saved tokenizer by its content, not its path."""
    return repr(checksums(tokenizer))


@cache
def _load(tokenizer: Path, identity: str) -> Tokenizer:  # noqa: ARG001 (part of the cache's key)
    """Load a tokenizer once per process; that takes as long as encoding some megabytes."""
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
