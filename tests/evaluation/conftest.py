"""A model, and an analysis of it."""

import pytest

from tests.evaluation.helpers import settings, split_of
from tests.helpers import make_documents, random_model, tiny_config
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation import final_scores
from tinyllm.evaluation.analysis import Analysis, analyse
from tinyllm.models.model import Model


@pytest.fixture
def model(tokenizer: Tokenizer) -> Model:
    return random_model(tiny_config(vocab_size=tokenizer.vocab_size))


@pytest.fixture
def analysis(model: Model, tokenizer: Tokenizer) -> Analysis:
    documents = make_documents(40, seed=3)
    train, test = split_of(tokenizer, documents[:30]), split_of(tokenizer, documents[30:])
    _, predictions = final_scores.predict_test(model, tokenizer, test, settings())
    prompted = [tokenizer.encode(documents[3]).tolist(), []]
    return analyse(model, tokenizer, train, test, predictions, prompted, settings(), seed=1)
