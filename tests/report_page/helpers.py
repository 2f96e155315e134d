"""The content of a page about a training that never ran."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers import ROOT
from tests.model_card.test_card import training
from tinyllm.evaluation.analysis import Analysis
from tinyllm.evaluation.calibration import Calibration
from tinyllm.evaluation.final_scores import Results, Sample
from tinyllm.evaluation.generated import TextStatistics
from tinyllm.evaluation.memorisation import Match
from tinyllm.evaluation.scores import Scores
from tinyllm.report_page.content import Content, gather
from tinyllm.report_page.curves import read_curves
from tinyllm.settings.load import load_params

STEP_COLUMNS = "step,loss,learning_rate,grad_norm"
MEASURES = ("loss", "perplexity", "bits_per_byte", "accuracy")
EVALUATION_COLUMNS = ",".join(["step", *(f"{s}_{m}" for s in ("train", "val") for m in MEASURES)])
WEIGHTS = "cd" * 32


def falling(step: int) -> float:
    return 2.0 + 5.0 * math.exp(-step / 15) + 0.1 * math.sin(step)


def write_reports(folder: Path, steps: int, loss: Callable[[int], float] = falling) -> Path:
    """The tables of a training's reports."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{n},{loss(n)!r},{0.004 * (1 - n / steps)!r},{0.5 + 0.1 * math.cos(n)!r}"
            for n in range(steps)]  # fmt: skip
    text = "\n".join([STEP_COLUMNS, *rows]).replace("nan", "")
    (folder / "steps.csv").write_text(text + "\n", encoding="utf-8")
    every = max(1, steps // 5)
    scored = [
        f"{n},{loss(n)!r},7.0,1.2,0.5,{loss(n) + 0.3!r},8.0,1.3,0.45"
        for n in range(0, steps + 1, every)
    ]
    text = "\n".join([EVALUATION_COLUMNS, *scored]).replace("nan", "")
    (folder / "evaluations.csv").write_text(text + "\n", encoding="utf-8")
    return folder


def analysis(positions: int = 16) -> Analysis:
    texts = TextStatistics(
        texts=4, tokens=80, characters=300, ended=0.5, distinct=[0.2, 0.6, 0.8, 0.9],
        repeated=0.01, verbatim=0.084, longest=Match("x" * 60, 0, 1, "title"),
    )  # fmt: skip
    rows = [{"position": n, "tokens": 9, "loss": 4 - n / positions} for n in range(1, positions)]
    doubling = [
        {"first": first, "last": 2 * first - 1, "sequences": 9, "tokens": 9, "loss": 4 - first / 16}
        for first in (1, 2, 4, 8)
    ]
    classes = [
        {"least": 0, "most": 0, "ids": 3, "tokens": 1, "loss": 9.5, "share_of_tokens": 0.001,
         "share_of_loss": 0.004},
        {"least": 1000, "most": 9999, "ids": 30, "tokens": 999, "loss": 2.5,
         "share_of_tokens": 0.999, "share_of_loss": 0.996},
    ]  # fmt: skip
    bins = [
        {"low": n / 4, "high": (n + 1) / 4, "tokens": 25, "confidence": n / 4 + 0.125,
         "accuracy": n / 4 + 0.15}
        for n in range(4)
    ]  # fmt: skip
    return Analysis(
        Calibration(0.025, 0.5, 0.525, bins), rows, doubling, doubling, classes, texts, texts, texts
    )


def content(
    folder: Path,
    steps: int = 100,
    loss: Callable[[int], float] = falling,
    samples: list[tuple[str, str]] | None = None,
    positions: int = 16,
    **known: Any,
) -> Content:
    """The content of a page; `known` changes what is known of the training."""
    drawn = [("Return ", "the mean."), ("Raises\n", "ValueError")] if samples is None else samples
    model = training(steps=steps, **{"saved_step": steps // 5 * 4, **known})
    results = Results(
        model,
        WEIGHTS,
        load_params(ROOT / "params.yaml").evaluate,
        Scores(2.5, 1.192, 0.4777, 99_449),
        {"zlib": 2.338, "lzma": 1.976, "bigram": 1.814},
        [Sample(prompt, text, []) for prompt, text in drawn],
        analysis(positions),
    )
    curves = read_curves(write_reports(folder / "train", steps, loss), model.saved_step)
    return gather(results, curves, Path("models/tinyllm"))
