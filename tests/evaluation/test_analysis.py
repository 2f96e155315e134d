"""The analysis of a model, its report and its metrics."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.helpers import settings, split_of
from tests.helpers import make_documents
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation import analysis_report, final_scores
from tinyllm.evaluation.analysis import Analysis, analyse, context_use
from tinyllm.evaluation.memorisation import SHORTEST, Match
from tinyllm.evaluation.record import analysis_metrics
from tinyllm.models.model import Model

FOLDER_FILES = [
    "analysis.json", "analysis.md", "calibration.csv", "calibration.png", "loss_by_context.csv",
    "loss_by_context.png", "loss_by_document.csv", "loss_by_frequency.csv",
    "loss_by_frequency.png",
]  # fmt: skip


def test_every_breakdown_adds_up_to_the_score(model: Model, tokenizer: Tokenizer) -> None:
    documents = make_documents(40, seed=3)
    train, test = split_of(tokenizer, documents[:30]), split_of(tokenizer, documents[30:])
    scores, predictions = final_scores.predict_test(model, tokenizer, test, settings(stride=None))
    found = analyse(model, tokenizer, train, test, predictions, [], settings(stride=None), seed=1)
    nats = scores.loss * scores.tokens
    for rows in (found.positions, found.context, found.document, found.frequency):
        assert sum(row["tokens"] for row in rows) == scores.tokens
        assert sum(row["tokens"] * row["loss"] for row in rows) == pytest.approx(nats, rel=1e-6)
    assert sum(row["share_of_loss"] for row in found.frequency) == pytest.approx(1)
    assert sum(row["tokens"] for row in found.calibration.bins) == scores.tokens
    assert found.calibration.accuracy == pytest.approx(scores.accuracy)
    assert found.document[0]["tokens"] == found.document[0]["sequences"] == 10  # documents


@pytest.mark.parametrize("test_documents", [["Ba."], ["", "Ba ce di."]])
def test_the_smallest_test_split_can_be_analysed(
    model: Model, tokenizer: Tokenizer, tmp_path: Path, test_documents: list[str]
) -> None:
    """With fewer tokens than the context, and a single sample of one token."""
    train, test = split_of(tokenizer, ["Fo gu."]), split_of(tokenizer, test_documents)
    small = settings(prompts=[], documents=1, sample_tokens=1)
    scores, predictions = final_scores.predict_test(model, tokenizer, test, small)
    found = analyse(model, tokenizer, train, test, predictions, [], small, seed=1)
    assert sum(row["tokens"] for row in found.positions) == scores.tokens
    assert found.prompted.texts == 0 and found.generated.verbatim == 0
    analysis_report.write(tmp_path, found)
    assert f"none of {SHORTEST} characters" in (tmp_path / "analysis.md").read_text()
    assert len(list(tmp_path.glob("*.png"))) == 3


@pytest.mark.parametrize("stride", [1, 8])
def test_overlapping_windows_do_not_change_the_use_of_the_context(
    model: Model, tokenizer: Tokenizer, stride: int
) -> None:
    """In them, the model sees more tokens than the position says."""
    test = split_of(tokenizer, make_documents(10, seed=3))
    found = []
    for chosen in (settings(stride=None), settings(stride=stride), settings(stride=16)):
        _, predictions = final_scores.predict_test(model, tokenizer, test, chosen)
        found.append(context_use(model, tokenizer, test, predictions, chosen))
    assert found[1] == found[0] == found[2]
    assert [row["position"] for row in found[0]] == list(range(1, 17))


def test_the_report_has_the_same_bytes_every_time(analysis: Analysis, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        analysis_report.write(tmp_path / name, analysis)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == FOLDER_FILES
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_numbers_on_disk_are_those_of_the_analysis(analysis: Analysis, tmp_path: Path) -> None:
    analysis_report.write(tmp_path, analysis)
    content = json.loads((tmp_path / "analysis.json").read_text())
    assert content == analysis.as_dict()
    assert list(analysis_metrics(content)) == list(analysis_metrics(analysis.as_dict()))
    for name, rows in (
        ("loss_by_context", analysis.positions),
        ("loss_by_document", analysis.document),
        ("loss_by_frequency", analysis.frequency),
        ("calibration", analysis.calibration.bins),
    ):
        with (tmp_path / f"{name}.csv").open() as file:
            table = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        assert table == rows


def test_the_page_shows_the_headline_numbers(analysis: Analysis) -> None:
    page, line = analysis_report.page(analysis), analysis_report.headline(analysis)
    assert f"{analysis.calibration.error:.2%}" in page
    assert f"{analysis.calibration.error:.1%}" in line
    for group in (analysis.generated, analysis.real):
        assert f"{group.verbatim:.1%}" in line and f"{group.verbatim:.1%}" in page
    assert analysis.prompted.longest.text in page
    assert analysis.prompted.longest.title in page
    assert all(cell.count("|") == row.count("|") for cell, row in neighbours(page))


def neighbours(page: str) -> list[tuple[str, str]]:
    """Consecutive lines of tables."""
    pairs = pairwise(page.splitlines())
    return [(a, b) for a, b in pairs if a.startswith("|") and b.startswith("|")]


def test_a_quoted_run_does_not_end_its_block() -> None:
    quote = analysis_report.quote("x", Match("a\n~~~~~\nb" * 10, 0, 3, "Title `with` code"))
    opening = quote.splitlines()[2].removesuffix("text")
    assert quote.splitlines().count(opening) == 1 and quote.endswith(opening)
    assert "~" * 5 in quote and len(opening) > 5


def test_metrics_have_the_position_as_their_step(analysis: Analysis) -> None:
    points = [
        (step, name, v)
        for step, values in analysis_metrics(analysis.as_dict())
        for name, v in values.items()
    ]
    assert len({(step, name) for step, name, _ in points}) == len(points)
    curve = [(step, value) for step, name, value in points if name == "test/loss_by_context"]
    assert curve == [(row["last"], row["loss"]) for row in analysis.context]
    at_zero = {name: value for step, name, value in points if step == 0}
    assert at_zero["test/calibration_error"] == analysis.calibration.error
    assert at_zero["words/prompted_verbatim"] == analysis.prompted.verbatim > 0
    assert at_zero["words/real_distinct_2"] == analysis.real.distinct[1]
    assert np.isfinite(list(at_zero.values())).all()
