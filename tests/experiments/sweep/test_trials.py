"""Trials are drawn once each, in Optuna's storage, and an interrupted sweep draws the same ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tinyllm.experiments.sweep import report
from tinyllm.experiments.sweep.settings import load_sweep
from tinyllm.experiments.sweep.trials import Trial, Trials

Open = Callable[[], Trials]
CONTINUOUS = "  train.learning_rate: {low: 0.001, high: 0.01, log: true}\n"
FEW = "  train.n_head: [4, 3]\n  train.d_model: [96, 128]\n"


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], Open]:
    def for_text(text: str) -> Open:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        sweep = load_sweep(path, ROOT / "params.yaml")
        return lambda: Trials.open(tmp_path, sweep)

    return for_text


def begin_all(trials: Trials) -> list[Trial]:
    found = []
    while (trial := trials.begin(1)) is not None:
        found.append(trial)
        trials.finish(trial, float(trial.index), 1.0)
    return found


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_a_finite_space_is_tried_whole_and_each_valid_point_once(
    opened: Callable[[str], Open], sampler: str
) -> None:
    trials = opened(f"vary:\n{FEW}sampler: {sampler}\n")()
    found = begin_all(trials)
    assert [trial.index for trial in found] == [1, 2, 3]
    shapes = {(t.settings["train.n_head"], t.settings["train.d_model"]) for t in found}
    assert shapes == {(4, 96), (4, 128), (3, 96)}  # 3 heads don't divide 128
    assert all(trial.settings["hardware.threads"] == 1 for trial in found)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_sweep_that_is_opened_again_draws_what_it_would_have_drawn(
    opened: Callable[[str], Open], sampler: str, tmp_path: Path
) -> None:
    text = f"vary:\n{CONTINUOUS}sampler: {sampler}\ntrials: 20\n"
    alone = opened(text)()
    expected = []
    for _ in range(12):
        trial = alone.begin(None)
        assert trial is not None
        expected.append(trial.settings)
        alone.finish(trial, trial.settings["train.learning_rate"], 1.0)
    (tmp_path / "trials.db").unlink()
    found = []
    for _ in range(12):
        again = opened(text)()
        trial = again.begin(None)
        assert trial is not None
        found.append(trial.settings)
        again.finish(trial, trial.settings["train.learning_rate"], 1.0)
    assert found == expected
    assert len({str(settings) for settings in found}) == 12


def test_a_trial_whose_choice_was_interrupted_is_no_trial(
    opened: Callable[[str], Open],
) -> None:
    trials = opened(f"vary:\n{CONTINUOUS}trials: 3\n")()
    trials.study.ask()  # killed here: nothing was started
    trials.recover()
    assert trials.all() == []
    assert trials.study.trials[0].state.is_finished()  # the sampler does not wait for it
    trial = trials.begin(2)
    assert trial is not None
    assert trial.index == 1


def test_a_running_trial_keeps_its_settings(opened: Callable[[str], Open]) -> None:
    open_again = opened(f"vary:\n{CONTINUOUS}trials: 3\n")
    trial = open_again().begin(2)
    again = open_again()
    again.recover()
    assert again.all() == [trial]


def test_a_hopeless_trial_is_recognised_by_its_scores(opened: Callable[[str], Open]) -> None:
    trials = opened(f"vary:\n{CONTINUOUS}trials: 9\npruner: median\n")()
    for value in (1.0, 1.1, 1.2, 1.3):
        trial = trials.begin(1)
        assert trial is not None
        assert not trials.report(trial, 400, value)
        trials.finish(trial, value, 1.0)
    good, bad = trials.begin(1), trials.begin(1)
    assert good is not None
    assert bad is not None
    assert not trials.report(good, 400, 0.9)
    assert trials.report(bad, 400, 1.4)
    assert trials.report(bad, 400, 1.4)  # read again after a restart
    trials.give_up(bad, "pruned", 3.0, "1.4 at step 400")
    assert trials.all()[-1].value == 1.4  # shown, but never the best
    assert trials.best() == trials.all()[0]
    assert [trial.state for trial in report.ranked(trials)] == [
        *["complete"] * 4, "pruned", "running",
    ]  # fmt: skip


def test_accuracy_is_better_when_it_is_larger(opened: Callable[[str], Open]) -> None:
    trials = opened(f"vary:\n{CONTINUOUS}trials: 9\nmetric: val.accuracy\n")()
    for value in (0.2, 0.4, 0.3):
        trial = trials.begin(1)
        assert trial is not None
        trials.finish(trial, value, 1.0)
    best = trials.best()
    assert best is not None
    assert best.index == 2


def test_drawn_numbers_have_few_digits_and_stay_in_their_range(
    opened: Callable[[str], Open],
) -> None:
    trials = opened(f"vary:\n{CONTINUOUS}trials: 20\nsampler: random\n")()
    for _ in range(10):
        trial = trials.begin(None)
        assert trial is not None
        rate = trial.settings["train.learning_rate"]
        assert float(f"{rate:.4g}") == rate
        assert 0.001 <= rate <= 0.01
