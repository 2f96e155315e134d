"""Generated documents, and the real ones that they are compared with."""

import numpy as np
import pytest

from tests.helpers import make_documents, random_model, tiny_config
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation import generated
from tinyllm.evaluation.generated import (
    ended_documents,
    real_texts,
    text_statistics,
    write_documents,
)
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Sampling

END = 60
DOCUMENTS = [[1] * 3, [2] * 10, [], [3] * 5, [4] * 8]
TEST = np.array([token for document in DOCUMENTS for token in [*document, END]], dtype=np.uint16)


def test_documents_are_the_same_every_time_and_each_has_its_own_random_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = for_inference(random_model())
    sampling = Sampling(max_tokens=12, top_k=20)
    documents = write_documents(network, sampling, 5, END, seed=1)
    assert len(documents) == 5 and len({tuple(document) for document in documents}) > 2
    assert all(END not in document and len(document) <= 12 for document in documents)
    assert write_documents(network, sampling, 5, END, seed=1) == documents
    assert write_documents(network, sampling, 5, END, seed=2) != documents
    monkeypatch.setattr(generated, "AT_ONCE", 2)
    assert write_documents(network, sampling, 5, END, seed=1) == documents
    assert write_documents(network, sampling, 3, END, seed=1) == documents[:3]


def test_real_texts_are_beginnings_of_documents_that_are_long_enough() -> None:
    assert real_texts(TEST, END, [5, 5, 5]) == [[2] * 5, [3] * 5, [4] * 5]
    assert real_texts(TEST, END, [9, 9]) == [[2] * 9, [2] * 9]
    assert real_texts(TEST, END, [99]) == [[2] * 10]
    assert real_texts(TEST, END, [0, 0, 0, 0, 0]) == [[]] * 5
    assert real_texts(TEST, END, []) == []
    numbered = np.concatenate([[*range(100, 110), END], [*range(200, 210), END]])
    assert real_texts(numbered, END, [3, 4]) == [[100, 101, 102], [200, 201, 202, 203]]


def test_a_document_ends_if_it_is_shorter_than_the_limit() -> None:
    """As a sample does: it needs room for the token that ends it."""
    assert ended_documents(TEST, END, 9) == 4 / 5
    assert ended_documents(TEST, END, 8) == 3 / 5
    assert ended_documents(TEST, END, 1) == 1 / 5


def test_the_statistics_of_texts(tokenizer: Tokenizer) -> None:
    documents = make_documents(20, seed=5)
    train = tokenizer.encode_documents(documents)
    copied = [tokenizer.encode(documents[7]).tolist()]
    other = [tokenizer.encode("xyz" * 40).tolist(), []]
    first, second, empty = text_statistics(
        [(copied, 0.25), (other, 1.0), ([], 0.0)], train, tokenizer
    )
    assert (first.texts, first.tokens, first.characters) == (1, len(copied[0]), len(documents[7]))
    assert first.ended == 0.25
    assert first.verbatim == 1 and first.longest.text == documents[7]
    assert documents[7] in documents[first.longest.document]
    assert len(first.distinct) == 4 and first.distinct[0] < first.distinct[3]
    assert second.verbatim == 0 and second.longest.text == ""
    assert second.repeated > 0.8 > first.repeated
    assert (empty.texts, empty.verbatim, empty.repeated, empty.distinct) == (0, 0, 0, [0] * 4)


def test_an_untrained_model_ends_no_document_early_by_rule() -> None:
    """A text may be empty, if the model ends it at once."""
    network = for_inference(random_model(tiny_config()))
    texts = write_documents(network, Sampling(max_tokens=1), 200, END, seed=3)
    assert {len(text) for text in texts} <= {0, 1}
