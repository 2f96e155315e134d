"""What a model's scores hide: where it is wrong, how sure it is, and what its text is like."""

from dataclasses import asdict, dataclass
from typing import Any

from tinyllm.data.token_store import TokenSplit
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.breakdown import (
    Row,
    by_doubling,
    by_frequency,
    by_position,
    count_tokens,
    positions_in_context,
    positions_in_document,
)
from tinyllm.evaluation.calibration import Calibration, calibration
from tinyllm.evaluation.generated import (
    Texts,
    TextStatistics,
    ended_documents,
    real_texts,
    text_statistics,
    write_documents,
)
from tinyllm.evaluation.scores import Predictions, make_windows, predict
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Sampling
from tinyllm.models.model import Model
from tinyllm.settings.evaluate import Evaluate

CONTEXT_TOKENS = 1 << 20  # test tokens scored by position in the context, about
GROUPS = ("generated", "real", "prompted")


@dataclass(frozen=True)
class Analysis:
    """Everything that `evaluate` measures beside the scores and baselines.

    Attributes:
        calibration: whether the model's probabilities are right.
        positions: for each number of tokens that the model sees (`position`): the number of test
            tokens scored so, and their mean loss in nats.
        context: the same for `first` to `last` tokens that the model sees, in doubling steps.
        document: the same by position in the document.
        frequency: the same by the token's count in the training split; see `by_frequency`.
        generated: documents that the model generated from an empty prompt.
        real: beginnings of test documents, of the same lengths.
        prompted: continuations of `evaluate.prompts`, without the prompts.
    """

    calibration: Calibration
    positions: list[Row]
    context: list[Row]
    document: list[Row]
    frequency: list[Row]
    generated: TextStatistics
    real: TextStatistics
    prompted: TextStatistics

    def as_dict(self) -> dict[str, Any]:
        """Everything but the long table `positions`, as JSON has it."""
        return {name: value for name, value in asdict(self).items() if name != "positions"}


def analyse(
    model: Model,
    tokenizer: Tokenizer,
    train: TokenSplit,
    test: TokenSplit,
    predictions: Predictions,
    prompted: Texts,
    settings: Evaluate,
    seed: int,
) -> Analysis:
    """Measure everything.

    Args:
        predictions: of all test tokens, in order.
        prompted: the continuations of the prompts.
    """
    end, losses = tokenizer.end_of_text, predictions.losses.numpy()
    positions = context_use(model, tokenizer, test, predictions, settings)
    counts = count_tokens(train.tokens, tokenizer.vocab_size)
    generated, real, continued = _text_statistics(
        model, tokenizer, train, test, prompted, settings, seed
    )
    return Analysis(
        calibration=calibration(predictions),
        positions=positions,
        context=by_doubling(positions),
        document=by_doubling(by_position(positions_in_document(test.tokens, end), losses)),
        frequency=list(by_frequency(counts, test.tokens, losses)),
        generated=generated,
        real=real,
        prompted=continued,
    )


def context_use(
    model: Model,
    tokenizer: Tokenizer,
    test: TokenSplit,
    predictions: Predictions,
    settings: Evaluate,
) -> list[Row]:
    """Mean loss by the number of tokens that the model sees, over windows that don't overlap.

    The predictions of the test scores serve if their windows don't overlap. Otherwise about
    CONTEXT_TOKENS test tokens are predicted again.
    """
    context_length = model.config.context_length
    if settings.stride not in (None, context_length):
        windows = make_windows(
            test.tokens,
            tokenizer.token_bytes(),
            tokenizer.end_of_text,
            context_length,
            limit=CONTEXT_TOKENS,
        )
        predictions = predict(model, windows, settings.batch_size)
    losses = predictions.losses.numpy()
    return by_position(positions_in_context(len(losses), context_length), losses)


def _text_statistics(
    model: Model,
    tokenizer: Tokenizer,
    train: TokenSplit,
    test: TokenSplit,
    prompted: Texts,
    settings: Evaluate,
    seed: int,
) -> list[TextStatistics]:
    """The statistics of GROUPS."""
    end, longest = tokenizer.end_of_text, settings.sample_tokens
    sampling = Sampling(longest, settings.temperature, settings.top_k, settings.top_p)
    generated = write_documents(for_inference(model), sampling, settings.documents, end, seed)

    def ended(texts: Texts) -> float:
        return sum(len(text) < longest for text in texts) / max(1, len(texts))

    real = real_texts(test.tokens, end, [len(text) for text in generated])
    groups = [
        (generated, ended(generated)),
        (real, ended_documents(test.tokens, end, longest)),
        (prompted, ended(prompted)),
    ]
    return text_statistics(groups, train.tokens, tokenizer)
