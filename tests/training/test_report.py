"""The reports of a training."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers import random_model, train_settings
from tinyllm.evaluation.scores import Scores
from tinyllm.training import report
from tinyllm.training.display.progress import Progress
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import Best, TrainState

SCORES = {
    step: {
        "train": Scores(loss=3.0 - step / 10, bits_per_byte=1.5, accuracy=0.25, tokens=100),
        "val": Scores(loss=3.1 + (step - 5) ** 2 / 10, bits_per_byte=1 / 3, accuracy=0.2, tokens=9),
    }
    for step in (0, 5, 10)
}


@pytest.fixture
def state() -> TrainState:
    model = random_model()
    state = TrainState(
        model,
        make_optimizer(model, train_settings()),
        step=10,
        best=Best(step=5, weights=model.state_dict()),
    )
    history = state.history
    for step in range(10):
        history.add_step(step, {"loss": 3 / (step + 7), "learning_rate": 1e-05, "grad_norm": 0.1})
    for step, scores in SCORES.items():
        history.add_evaluation(step, scores)
    return state


def read(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{key: float(v) for key, v in row.items()} for row in csv.DictReader(file)]


def test_the_tables_have_every_number_in_full_precision(tmp_path: Path, state: TrainState) -> None:
    report.write(tmp_path / "reports", state)
    assert read(tmp_path / "reports" / "steps.csv") == state.history.steps.rows()
    assert read(tmp_path / "reports" / "evaluations.csv") == state.history.evaluations.rows()
    assert "val_perplexity" in state.history.evaluations.columns


@pytest.mark.parametrize(("save", "step"), [("best", 5), ("last", 10)])
def test_the_metrics_are_those_of_the_saved_weights(
    tmp_path: Path, state: TrainState, save: str, step: int
) -> None:
    if save == "last":
        state.best.weights = {}
    report.write(tmp_path / "reports", state)
    summary = json.loads((tmp_path / "reports" / "summary.json").read_text())
    assert summary["val"] == SCORES[step]["val"].as_dict()
    assert (summary["saved_step"], summary["steps"]) == (step, 10)
    assert summary["parameters"] == state.model.n_parameters
    metrics = json.loads((tmp_path / "reports" / "metrics.json").read_text())
    assert metrics == {"val": {"bits_per_byte": SCORES[step]["val"].bits_per_byte}}


def test_the_reports_have_the_same_bytes_every_time(tmp_path: Path, state: TrainState) -> None:
    for name in ("one", "two"):
        report.write(tmp_path / name, state)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["evaluations.csv", "loss.png", "metrics.json", "steps.csv", "summary.json"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_terminal_evaluations_are_plain_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress(10, first_step=0, step_tokens=64) as progress:
        progress.evaluation(0, SCORES[0], best=True)
        for _ in range(5):
            assert progress.step(3.0, 0.01) > 0
        progress.evaluation(5, SCORES[5], best=False)
        assert progress.mean_speed() > 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step  0/10  train 3.0000  val 5.6000") and first.endswith("best")
    assert "0.3333 bits/byte" in second and "accuracy 20.0%" in second and "tok/s" in second


def test_the_speed_includes_saves_and_excludes_evaluations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(
        "tinyllm.training.display.progress.time", SimpleNamespace(perf_counter=lambda: now)
    )
    with Progress(10, first_step=0, step_tokens=60) as progress:
        now = 3
        progress.evaluation(0, SCORES[0], best=True)
        now = 5
        assert progress.step(3.0, 0.01) == 60 / 2
        now = 6
        assert progress.step(3.0, 0.01) == 60
        assert progress.mean_speed() == 2 * 60 / 3
        now = 10
        progress.evaluation(5, SCORES[5], best=False)
        assert progress.mean_speed() == 2 * 60 / 3
        now = 11
        assert progress.step(3.0, 0.01) == 60
        assert progress.mean_speed() == 3 * 60 / 4
        now = 11 + 2 + 1  # saving, then a step
        assert progress.step(3.0, 0.01) == 60 / 3
        assert progress.mean_speed() == 4 * 60 / 7
