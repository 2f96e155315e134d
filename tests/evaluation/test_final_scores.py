"""The final evaluation of a model: scores on the test split, and samples."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.helpers import settings, split_of
from tests.helpers import make_documents
from tests.model_card.test_card import training
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation import final_scores
from tinyllm.evaluation.analysis import Analysis
from tinyllm.evaluation.baselines import zlib_bits_per_byte
from tinyllm.evaluation.scores import Scores
from tinyllm.models.model import Model


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("stride", [None, 8, 1])
def test_every_test_token_is_scored_once(
    model: Model, tokenizer: Tokenizer, stride: int | None
) -> None:
    test = split_of(tokenizer, make_documents(10, seed=3))
    scores, predictions = final_scores.predict_test(model, tokenizer, test, settings(stride=stride))
    assert scores.tokens == len(test.tokens) == len(predictions.losses)
    # The bytes are those of the documents, without the tokens between them.
    nats = scores.loss * scores.tokens
    assert scores.bits_per_byte == pytest.approx(nats / np.log(2) / test.summary.bytes, rel=1e-9)


def test_the_baselines_are_those_of_the_test_text(tokenizer: Tokenizer) -> None:
    documents = make_documents(60, seed=3)
    train, test = split_of(tokenizer, documents[:40]), split_of(tokenizer, documents[40:])
    found = final_scores.baseline_scores(tokenizer, train, test)
    assert list(found) == ["zlib", "lzma", "bigram"]
    text = "".join(documents[40:]).encode()
    assert found["zlib"] == zlib_bits_per_byte(text)
    assert all(1 < value < 8 for value in found.values())


@pytest.mark.usefixtures("arithmetic")
def test_each_prompt_has_a_sample_that_is_the_same_every_time(
    model: Model, tokenizer: Tokenizer
) -> None:
    model.compute_dtype = torch.float32  # as evaluate; in bf16 rounding decides more draws
    samples = final_scores.write_samples(model, tokenizer, settings(), seed=1)
    assert [sample.prompt for sample in samples] == settings().prompts
    assert all(sample.text for sample in samples)
    assert final_scores.write_samples(model, tokenizer, settings(), seed=1) == samples
    assert final_scores.write_samples(model, tokenizer, settings(), seed=2) != samples
    twice = final_scores.write_samples(model, tokenizer, settings(prompts=["The ", "The "]), seed=1)
    assert twice[0].text != twice[1].text
    # Each has its own random numbers: removing one changes no other.
    two = settings(prompts=["The ", "Ba ce"])
    fewer = final_scores.write_samples(model, tokenizer, two, seed=1)
    assert fewer == samples[:2]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"top_k": 2},
        {"top_p": 0.2},
        {"sample_tokens": 5},
        {"temperature": 3.0},
    ],
)
def test_each_setting_of_the_samples_has_an_effect(
    model: Model, tokenizer: Tokenizer, change: dict[str, float]
) -> None:
    base = final_scores.write_samples(model, tokenizer, settings(), seed=1)
    assert final_scores.write_samples(model, tokenizer, settings(**change), seed=1) != base


def test_the_report_has_the_same_bytes_every_time(
    model: Model, tokenizer: Tokenizer, analysis: Analysis, tmp_path: Path
) -> None:
    samples = final_scores.write_samples(model, tokenizer, settings(), seed=1)
    scores = Scores(loss=2.5, bits_per_byte=1.25, accuracy=0.5, tokens=1000)
    baselines = {"zlib": 3.0, "lzma": 2.9, "bigram": 2.5}
    results = final_scores.Results(
        training(), "ab" * 32, settings(), scores, baselines, samples, analysis
    )
    for name in ("one", "two"):
        final_scores.write_report(tmp_path / name, results)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"comparison.png", "metrics.json", "samples.md", "scores.json"} <= {*names}
    assert {"analysis.json", "analysis.md", "calibration.csv", "calibration.png"} <= {*names}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    report = json.loads((tmp_path / "one" / "scores.json").read_text())
    assert report["test"] == {**scores.as_dict(), "tokens": 1000}
    assert report["baseline_bits_per_byte"] == baselines
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert metrics == {"test": {"bits_per_byte": 1.25, "loss": 2.5, "accuracy": 0.5}}
    text = (tmp_path / "one" / "samples.md").read_text()
    assert all(f"{sample.prompt}▶{sample.text}" in text for sample in samples)
