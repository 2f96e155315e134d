"""The final evaluation of a trained model: its scores on the test split, and generated text."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyllm.common.files import publish_file, publish_folder, write_json, write_text
from tinyllm.data.token_store import TokenSplit
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation import analysis_report, baselines
from tinyllm.evaluation.analysis import Analysis, analyse
from tinyllm.evaluation.scores import Predictions, Scores, make_windows, predict
from tinyllm.generation.sampling import Sampling
from tinyllm.generation.text import TextGenerator
from tinyllm.model_card.facts import Training
from tinyllm.models.model import Model
from tinyllm.pictures.evaluation import COMPARISON, comparison
from tinyllm.settings.evaluate import Evaluate

METRICS = "metrics.json"  # a column each in tables of runs: few enough to fit a terminal
SCORES = "scores.json"
HEADLINE = ("bits_per_byte", "loss", "accuracy")


@dataclass(frozen=True)
class Sample:
    """A prompt, and the text that the model generated after it, also as token ids."""

    prompt: str
    text: str
    tokens: list[int]


@dataclass(frozen=True)
class Results:
    """A model, and what its evaluation found.

    Attributes:
        training: what is known of the model.
        weights_sha256: of the weights that were evaluated.
        baselines: bits per byte of the test text, by name.
    """

    training: Training
    weights_sha256: str
    settings: Evaluate
    scores: Scores
    baselines: dict[str, float]
    samples: list[Sample]
    analysis: Analysis


def evaluate(
    model: Model,
    tokenizer: Tokenizer,
    train: TokenSplit,
    test: TokenSplit,
    training: Training,
    weights_sha256: str,
    settings: Evaluate,
    seed: int,
) -> tuple[Results, Predictions]:
    """Score the model on the test split, generate samples, and analyse both.

    Returns the results, and the losses of each token.
    """
    scores, predictions = predict_test(model, tokenizer, test, settings)
    found = baseline_scores(tokenizer, train, test)
    samples = write_samples(model, tokenizer, settings, seed)
    texts = [sample.tokens for sample in samples]
    analysis = analyse(model, tokenizer, train, test, predictions, texts, settings, seed)
    results = Results(training, weights_sha256, settings, scores, found, samples, analysis)
    return results, predictions


def predict_test(
    model: Model, tokenizer: Tokenizer, test: TokenSplit, settings: Evaluate
) -> tuple[Scores, Predictions]:
    """Predict every test token exactly once. Returns the scores, and the losses of each token."""
    windows = make_windows(
        test.tokens,
        tokenizer.token_bytes(),
        tokenizer.end_of_text,
        model.config.context_length,
        stride=settings.stride,
    )
    predictions = predict(model, windows, settings.batch_size)
    return predictions.scores(windows.n_bytes), predictions


def baseline_scores(tokenizer: Tokenizer, train: TokenSplit, test: TokenSplit) -> dict[str, float]:
    """Bits per byte of compressors and of a bigram model on the test text."""
    end = tokenizer.end_of_text
    text = tokenizer.decode_bytes(test.tokens[test.tokens != end].tolist())
    return {
        "zlib": baselines.zlib_bits_per_byte(text),
        "lzma": baselines.lzma_bits_per_byte(text),
        "bigram": baselines.bigram_bits_per_byte(
            train.tokens, test.tokens, tokenizer.vocab_size, end, test.summary.bytes
        ),
    }


def write_samples(
    model: Model, tokenizer: Tokenizer, settings: Evaluate, seed: int
) -> list[Sample]:
    """Generate a continuation of each prompt, all at once; the same text every time."""
    sampling = Sampling(
        settings.sample_tokens, settings.temperature, settings.top_k, settings.top_p
    )
    texts = TextGenerator(model, tokenizer).complete(settings.prompts, sampling, seed=seed)
    return [
        Sample(prompt, completion.text, completion.tokens)
        for prompt, completion in zip(settings.prompts, texts, strict=True)
    ]


def samples_markdown(samples: list[Sample]) -> str:
    """The samples as Markdown; ▶ separates each prompt from the generated text."""
    parts = ["# Samples", "", "Each prompt, and the text that the model generated after `▶`.", ""]
    for sample in samples:
        fence = "~" * 4
        parts += [fence + "text", f"{sample.prompt}▶{sample.text}", fence, ""]
    return "\n".join(parts)


def write_losses(path: Path, predictions: Predictions) -> None:
    """Publish the loss of each test token in nats, (N,) fp32, in the order of the test split.

    Comparing two models with the same vocabulary token by token detects a significant difference
    with far fewer tokens than comparing their means.
    """
    with publish_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, predictions.losses.numpy(), allow_pickle=False)


def write_report(folder: Path, results: Results) -> None:
    """Publish the numbers, the samples, the analysis and the pictures."""
    scores, compared = results.scores, results.baselines
    with publish_folder(folder) as new:
        test = scores.as_dict()
        write_json(new / METRICS, {"test": {name: test[name] for name in HEADLINE}})
        write_json(
            new / SCORES,
            {"test": {**test, "tokens": scores.tokens}, "baseline_bits_per_byte": compared},
        )
        write_text(new / "samples.md", samples_markdown(results.samples))
        comparison(new / COMPARISON, {**compared, "tinyllm": scores.bits_per_byte})
        analysis_report.write(new, results.analysis)


def lines(results: Results, model: Path) -> Iterator[str]:
    """Summarise the evaluation of a model for the terminal, with the first sample."""
    scores = results.scores
    yield (
        f"{scores.bits_per_byte:.4f} bits/byte on {scores.tokens:,} test tokens "
        f"(loss {scores.loss:.4f}, accuracy {scores.accuracy:.1%}); "
        + ", ".join(f"{name} {value:.3f}" for name, value in results.baselines.items())
    )
    yield analysis_report.headline(results.analysis)
    for sample in results.samples[:1]:
        yield f"{model} generates:\n\n{sample.prompt}{sample.text}\n"
