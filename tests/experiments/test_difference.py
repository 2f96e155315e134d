"""`tinyllm compare A B`: whether a difference is more than chance, from the runs' own losses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.experiments.test_compare import project, track  # noqa: F401 (a fixture)
from tinyllm.experiments.difference import choose, extremes, over_seeds
from tinyllm.experiments.difference_report import compare_two
from tinyllm.experiments.runs import Run, project_runs
from tinyllm.tracking.model_record import LENGTHS, LOSSES

LENGTH, DOCUMENTS = 20, 60
DRAW = np.random.default_rng(1)
EASY = DRAW.gamma(2.0, 1.0, LENGTH * DOCUMENTS)  # nats of each test token


def track_losses(
    name: str, losses: npt.NDArray[Any], lengths: list[int] | None = None, **settings: str
) -> str:
    """Make a run in MLflow with its losses, as evaluate records them."""
    from mlflow import MlflowClient

    number = track(name, float(losses.mean()) / 2, **settings)
    for path, content in ((LOSSES, losses), (LENGTHS, lengths or [LENGTH] * DOCUMENTS)):
        file = Path(path)
        file.parent.mkdir(exist_ok=True)
        np.save(file, np.asarray(content))
        MlflowClient().log_artifact(number, str(file), file.parent.as_posix())
    return number


def compared(capsys: pytest.CaptureFixture[str], *names: str) -> dict[str, Any]:
    capsys.readouterr()
    compare_two(project_runs(), names, "json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def shown(capsys: pytest.CaptureFixture[str], *names: str) -> str:
    capsys.readouterr()
    compare_two(project_runs(), names, None)
    return capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_a_model_that_is_better_on_most_tokens_is_better(
    capsys: pytest.CaptureFixture[str],
) -> None:
    noise = DRAW.normal(0, 0.3, len(EASY))
    track_losses("good", EASY)
    worse = track_losses("worse", EASY + 0.1 + noise, train__n_layer="2")
    found = compared(capsys, "good", "worse")["test_tokens"]
    expected = -(0.1 + noise.mean()) / 2  # a nat per token is half a bit per byte here
    assert found["is_beyond_chance"] and found["mean"] == pytest.approx(expected, rel=1e-6)
    assert found["low"] < expected < found["high"] < 0
    text = shown(capsys, "good", worse[:6])
    assert "A is better by 0.0" in text and "more than chance" in text
    assert "train.n_layer: 4 (A), 2 (B)" in text
    assert "B is better" in shown(capsys, "worse", "good")


@pytest.mark.usefixtures("project")
def test_a_difference_in_a_few_documents_is_chance(capsys: pytest.CaptureFixture[str]) -> None:
    other = EASY.copy()
    other[:LENGTH] += 0.5  # one document of sixty
    track_losses("a", EASY)
    track_losses("b", other)
    assert not compared(capsys, "a", "b")["test_tokens"]["is_beyond_chance"]
    assert "which chance explains" in shown(capsys, "a", "b")


@pytest.mark.usefixtures("project")
def test_runs_with_other_test_tokens_are_not_compared() -> None:
    track_losses("a", EASY)
    track_losses("b", EASY[LENGTH:], [LENGTH] * (DOCUMENTS - 1))
    with pytest.raises(ValueError, match="a and b were scored on different test tokens"):
        compare_two(project_runs(), ["a", "b"], None)


@pytest.mark.usefixtures("project")
def test_a_run_without_scores_or_losses_is_named() -> None:
    track_losses("a", EASY)
    track("failed", None)
    track("old", 1.2)
    for name, reason in (("failed", "has no test score"), ("old", "MLflow has no losses")):
        with pytest.raises(ValueError, match=f"{name}:? {reason}"):
            compare_two(project_runs(), ["a", name], None)


def scored(seed: int, layers: int, test: float) -> Run:
    settings = {"seed": str(seed), "train.n_layer": str(layers), "runtime.num_workers": str(seed)}
    return Run(f"{layers}-{seed}", settings, test, run_id=f"{layers}{seed}abcdef", time=seed)


def test_settings_are_compared_over_repeated_seeds() -> None:
    first = [scored(seed, 4, test) for seed, test in enumerate([1.20, 1.21, 1.19])]
    second = [scored(seed, 6, test) for seed, test in enumerate([1.10, 1.11, 1.12])]
    runs = [*first, *second, scored(0, 8, 1.0)]
    found = over_seeds(runs, first[0], second[2])
    assert found is not None and sorted(found.first) == [1.19, 1.20, 1.21]
    assert found.mean == pytest.approx(0.09) and 0 < found.low < 0.09 < found.high
    # Welch's interval by hand: both variances are 1e-4, so 4 degrees of freedom, t = 2.776.
    assert found.high - found.low == pytest.approx(2 * 2.776 * (2e-4 / 3) ** 0.5, rel=1e-3)
    assert over_seeds(runs, first[0], runs[-1]) is None  # no repeats of 8 layers
    assert over_seeds(runs, first[0], first[1]) is None  # the same settings


def test_a_run_is_chosen_by_name_or_by_the_beginning_of_its_id() -> None:
    runs = [scored(0, 4, 1.2), scored(1, 4, 1.2), scored(0, 6, 1.1)]
    assert choose(runs, "6-0") is runs[2] and choose(runs, "60ab") is runs[2]
    assert choose([*runs, runs[2]], "6-0").name == "6-0"
    with pytest.raises(ValueError, match="4: no run has this name or id"):
        choose(runs, "4")  # too short for an id
    twins = [Run("a", run_id="abcdef1"), Run("b", run_id="abcdef2")]
    with pytest.raises(ValueError, match="abcdef: several runs begin so: abcdef1, abcdef2"):
        choose(twins, "abcdef")


def test_the_places_of_the_largest_differences() -> None:
    assert extremes(np.array([0.0, 5, -3, 1, -9, 2, 7, 4])) == [4, 2, 0, 7, 1, 6]
    assert extremes(np.array([2.0, 1.0])) == [1, 0]


@pytest.mark.parametrize("name", ["n_layer=6 (runny-chic)", "runny-chic", "0123"])
def test_a_run_is_found_by_both_names_and_by_its_id(name: str) -> None:
    wanted = Run(name="runny-chic", title="n_layer=6 (runny-chic)", run_id="01234567")
    assert choose([Run(name="other", title="other", run_id="89abcdef"), wanted], name) is wanted
