"""What the page shows, gathered from what `evaluate` knows: the same for the same inputs.

Times, rates, hosts, dates and commits are not in it: the same inputs would give another page.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinyllm.evaluation.analysis import GROUPS, Analysis
from tinyllm.evaluation.final_scores import Results, Sample
from tinyllm.evaluation.model_card import sampling
from tinyllm.model_card.facts import Training, in_words
from tinyllm.model_card.loading import FOLDER, how_to_load
from tinyllm.models.registry import class_of
from tinyllm.report_page import charts
from tinyllm.report_page.curves import Columns, Curves, finite
from tinyllm.report_page.settings import Row, setting_rows
from tinyllm.settings.evaluate import Evaluate

FORMAT = 1  # of the content; another one can't be read
MOST_SAMPLES = 20
LONGEST_SAMPLE = 3000  # characters of a prompt, and of a text
LONGEST_NAME = 300
PROMPT = "The "  # in examples, where there is no sample

Content = dict[str, Any]


def gather(results: Results, curves: Curves, model: Path) -> Content:
    """Everything that the page shows, as JSON can hold it.

    Args:
        model: folder of the model, for the commands that load it.
    """
    training, found, samples = results.training, results.analysis, results.samples
    prompt = samples[0].prompt if samples else PROMPT
    architecture = class_of(training.settings["architecture"])
    return {
        "format": FORMAT,
        "title": training.name,
        "summary": _summary(training, architecture.HF_ARCHITECTURE),
        "source": training.source[:LONGEST_NAME],
        "licence": training.licence and training.licence[:LONGEST_NAME],
        "scores": {**results.scores.as_dict(), "tokens": results.scores.tokens},
        "baselines": results.baselines,
        "training": _progress(training),
        "charts": _charts(training, curves, found),
        "evaluations": _evaluation_rows(curves.evaluations),
        "context": found.context,
        "frequency": found.frequency,
        "calibration": {**asdict(found.calibration)},
        "texts": {name: _statistics(getattr(found, name)) for name in GROUPS},
        "samples": [_sample(sample) for sample in samples[:MOST_SAMPLES]],
        "all_samples": len(samples),
        "sampling": sampling(results.settings).removeprefix(", "),
        "splits": training.splits,
        "weights_sha256": results.weights_sha256,
        "settings": _settings(training, results.settings),
        "loading": loading(how_to_load(architecture, prompt, _context(training)), model),
    }


def _progress(training: Training) -> Content:
    return {
        "steps": training.steps,
        "saved_step": training.saved_step,
        "tokens": training.tokens_seen,
        "epochs": training.tokens_seen / training.splits["train"]["tokens"],
        "tokenizer": training.tokenizer,
        "vocab_size": training.vocab_size,
    }


def _charts(training: Training, curves: Curves, found: Analysis) -> Content:
    steps = curves.steps
    return {
        "training": [
            charts.loss(steps, curves.evaluations, training.saved_step),
            charts.learning_rate(steps),
            charts.gradient_norm(steps, training.settings["grad_clip"]),
        ],
        "context": charts.context_use(found.positions, found.context, found.document),
        "calibration": [charts.calibration(found.calibration.bins)],
    }


def _context(training: Training) -> int:
    return int(training.settings["context_length"])


def _summary(training: Training, architecture: str) -> list[tuple[str, str]]:
    shape = training.settings
    return [
        ("parameters", f"{training.parameters:,}"),
        (
            "network",
            f"{architecture}: {shape['n_layer']} layers, {shape['n_head']} heads, "
            f"width {shape['d_model']}",
        ),
        ("context", f"{_context(training):,} tokens"),
        ("vocabulary", f"{training.vocab_size:,} tokens ({training.tokenizer})"),
        (
            "trained on",
            f"{in_words(training.tokens_seen)} tokens in {training.steps:,} steps, "
            f"{training.precision}",
        ),
    ]


def _evaluation_rows(evaluations: Columns) -> list[dict[str, float | None]]:
    names = ("step", "train_loss", "val_loss", "val_bits_per_byte", "val_accuracy")
    columns = [finite(evaluations[name]) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _statistics(texts: Any) -> dict[str, Any]:
    known = asdict(texts)
    longest = known.pop("longest")
    return {**known, "longest": len(longest["text"])}


def _sample(sample: Sample) -> dict[str, Any]:
    cut = max(len(sample.prompt), len(sample.text)) > LONGEST_SAMPLE
    return {
        "prompt": sample.prompt[:LONGEST_SAMPLE],
        "text": sample.text[:LONGEST_SAMPLE],
        "cut": cut,
    }


def _settings(training: Training, settings: Evaluate) -> list[Row]:
    """The settings that made the model and its scores. `register_as` changes neither."""
    values = {"seed": training.seed}
    values |= {f"train.{name}": value for name, value in training.settings.items()}
    scored = settings.model_dump(exclude={"register_as"})
    return setting_rows(values | {f"evaluate.{name}": value for name, value in scored.items()})


def loading(markdown: str, model: Path) -> list[tuple[str, str]]:
    """The parts of the model card's section on loading: ("text" or "code", content)."""
    body = markdown.partition("\n")[2].replace(FOLDER, model.as_posix())
    parts = []
    for number, part in enumerate(re.split(r"^```\w*\n(.*?)\n```$", body, flags=re.M | re.S)):
        if part.strip():
            parts.append(("code" if number % 2 else "text", part.strip("\n")))
    return parts
