"""Measures encoding and training a tokenizer, ours and the alternatives, in MB/s.

python -m benchmarks.workers.tokens WORK TEXT SIZE ENCODING
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import corpus
from benchmarks.pairs import serve
from tinyllm.common.os_processes import available_cores
from tinyllm.data.readers.documents import Piece
from tinyllm.data.tokenize.encode import encode_corpus
from tinyllm.data.tokenize.survey import survey
from tinyllm.data.tokenize.workers import Workers
from tinyllm.data.tokenizer import PATTERN, Tokenizer
from tinyllm.models.hf_tokenizer import pre_tokenizer

AT_ONCE = 2000  # documents that the peer encodes at once, so that its lists fit into memory
VOCABULARY = 8192


def main() -> None:
    work, text, size, encoding = sys.argv[1:]
    documents = list(corpus.documents(Path(text).read_text(encoding="utf-8"), int(size)))
    n_bytes = sum(len(document.encode()) for document in documents)
    call = {"encode": encode, "batch": batch, "learn": learn, "bare": bare}[work]

    if work == "encode":
        encode(documents[:AT_ONCE], encoding, checked=True)

    def timed() -> float:
        started = time.perf_counter()
        call(documents, encoding)
        return n_bytes / 1e6 / (time.perf_counter() - started)

    serve(timed)


def encode(documents: list[str], encoding: str, checked: bool = False) -> None:
    """Encode documents to shards on disk: the stage's work without reading and reporting."""
    from tinyllm.settings.split import Split  # as in the stage: workers don't need it

    settings = Split(validation_fraction=0.1, test_fraction=0.1, near_duplicates=0)
    tokenizer = Tokenizer.named(encoding)
    root = Path(tempfile.mkdtemp(dir="."))
    try:
        for name in ("notes", "tokens"):
            (root / name).mkdir()
        tokenizer.save(root / "tokenizer")
        with Workers(available_cores()) as workers:

            def read() -> "map[Piece]":
                return map(_whole, documents)

            found = survey(read, settings, root / "notes", workers)
            encode_corpus(read, found, root / "tokenizer", root / "tokens", workers)
        if checked:
            check(documents, tokenizer, root / "tokens")
    finally:
        shutil.rmtree(root)


def _whole(document: str) -> Piece:
    return Piece(document, True)


def check(documents: list[str], tokenizer: Tokenizer, folder: Path) -> None:
    """Check that the ids on disk are tiktoken's."""
    expected = [
        token
        for ids in tokenizer.encoding.encode_ordinary_batch(documents)
        for token in (*ids, tokenizer.end_of_text)
    ]
    assert np.load(folder / "tokens-00000.npy")[: len(expected)].tolist() == expected


def batch(documents: list[str], encoding: str) -> None:
    """Encode with tiktoken's function for many documents; discards the result."""
    tokenizer = Tokenizer.named(encoding).encoding
    for first in range(0, len(documents), AT_ONCE):
        tokenizer.encode_ordinary_batch(documents[first : first + AT_ONCE], num_threads=2)


def learn(documents: list[str], _: str) -> None:
    Tokenizer.train(documents, VOCABULARY)


def bare(documents: list[str], _: str) -> None:
    """Train with Hugging Face's tokenizers only, on the same regular expression."""
    from tokenizers import Tokenizer as Learner
    from tokenizers import models, pre_tokenizers, trainers

    learner = Learner(models.BPE())
    learner.pre_tokenizer = pre_tokenizer(PATTERN)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(documents, trainer)


if __name__ == "__main__":
    main()
