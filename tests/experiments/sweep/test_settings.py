"""A sweep.yaml is checked against params.yaml before anything runs, all of it at once."""

from pathlib import Path

import pytest

from tests.helpers import ROOT
from tinyllm.experiments.sweep.settings import Sweep, load_sweep
from tinyllm.experiments.sweep.space import Choices, Range

PARAMS = ROOT / "params.yaml"
SOUND = "vary:\n  train.n_layer: [2, 4]\n"


def load(folder: Path, text: str) -> Sweep:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return load_sweep(path, PARAMS)


def errors(folder: Path, text: str) -> list[str]:
    with pytest.raises(ValueError, match=r"sweep\.yaml has") as raised:
        load(folder, text)
    return str(raised.value).splitlines()[1:]


def test_ranges_are_whole_numbers_where_the_setting_is(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        "vary:\n"
        "  train.learning_rate: {low: 0.001, high: 0.01, log: true}\n"
        "  train.dropout: {low: 0, high: 0.5}\n"
        "  train.weight_decay: {low: 0, high: 1}\n"
        "  train.n_layer: {low: 2, high: 6, step: 2}\n"
        "  train.warmup_steps: {low: 50, high: 200}\n"
        "  train.betas: [[0.9, 0.95], [0.9, 0.99]]\n"
        "trials: 5\n",
    )
    assert sweep.space == {
        "train.learning_rate": Range(low=0.001, high=0.01, log=True),
        "train.dropout": Range(low=0.0, high=0.5),
        "train.weight_decay": Range(low=0.0, high=1.0),
        "train.n_layer": Range(low=2, high=6, step=2),
        "train.warmup_steps": Range(low=50, high=200, step=1),
        "train.betas": Choices(([0.9, 0.95], [0.9, 0.99])),
    }
    assert sweep.content.name == "sweep"  # of the file


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    found = errors(
        tmp_path,
        "vary:\n"
        "  train.learning_rat: [0.001]\n"
        '  train.n_layer: [0, 2.5, "4"]\n'
        "  train.betas: [[0.9]]\n"
        "  train.d_model: {low: 64, step: x}\n"
        "  train.batch_size: 3\n"
        "  train.dropout: {low: 0, high: 1}\n"
        "set:\n"
        "  train.max_step: 20\n"
        "  train.optimizer: lion\n"
        "sampler: bayes\n"
        "trial: 3\n",
    )
    assert found == [
        "sampler = 'bayes': must be 'grid', 'random' or 'tpe'",
        "trial: is not a setting",
        "set.train.max_step: is not a setting of params.yaml",
        "set.train.optimizer = 'lion': must be 'adamw', 'adam', 'sgd' or 'muon'",
        "vary.train.learning_rat: is not a setting",
        "vary.train.n_layer = 0: must be greater than or equal to 1",
        "vary.train.n_layer = 2.5: must be a whole number",
        "vary.train.n_layer = '4': must be a whole number, without quotes",
        "vary.train.betas = [0.9]: List should have at least 2 items after validation, not 1",
        "vary.train.d_model.high: is missing",
        "vary.train.d_model.step = 'x': must be a number",
        "vary.train.batch_size = 3: must be a list of values, or a range like "
        "{low: 0.001, high: 0.01, log: true}",
        "vary.train.dropout = 1.0: must be less than 1",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vary: {}\n", "vary = {}"),
        (SOUND + "metric: test.bits_per_byte\n", "a test score that chose the settings"),
        ("vary:\n  split.test_fraction: [0.1, 0.2]\n", "changes the validation text"),
        ("vary:\n  seed: [1, 2]\n", "list the seeds under `seeds`"),
        ("vary:\n  runtime.num_workers: [0, 1]\n", "changes no result"),
        ("vary:\n  train.dropout: {low: 0.0, high: 0.5}\n", "give `trials` or `minutes`"),
        (
            "vary:\n  train.dropout: {low: 0.0, high: 0.5}\nsampler: grid\n",
            "needs lists, or ranges with a step",
        ),
        ("vary:\n  train.n_layer: {low: 4, high: 4}\n", "must be below high"),
        ("vary:\n  train.dropout: {low: 0, high: 0.5, log: true}\n", "needs low above 0"),
        ("vary:\n  train.n_layer: [2, 2]\n", "must not have a value twice"),
        (SOUND + "set:\n  train.n_layer: 3\n", "is under `vary` too"),
        (SOUND + "seeds: [1, 1]\n", "must not have a seed twice"),
        (SOUND + "set:\n  runtime.tracker: none\npruner: median\n", "needs runtime.tracker"),
        ("vary:\n  train.n_head: [3, 5]\n", "no combination of values is valid"),
        (
            "vary:\n  train.n_head: [4, 3]\n  train.d_model: [64, 128]\n",
            "is valid with no value of the others: train.n_head = 3: must divide",
        ),
    ],
)
def test_what_cannot_work_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    found = errors(tmp_path, text)
    assert len(found) == 1
    assert message in found[0]


def test_a_range_with_steps_has_both_ends(tmp_path: Path) -> None:
    sweep = load(tmp_path, "vary:\n  train.dropout: {low: 0.0, high: 0.3, step: 0.1}\n")
    values = [point["train.dropout"] for point in sweep.points() or ()]
    assert values == pytest.approx([0.0, 0.1, 0.2, 0.3])  # 0.3 / 0.1 is below 3


def test_values_that_fit_some_values_of_the_others_are_fine(tmp_path: Path) -> None:
    sweep = load(tmp_path, "vary:\n  train.n_head: [4, 3]\n  train.d_model: [96, 128]\n")
    points = list(sweep.points() or ())
    assert len(points) == 4
    assert [point for point in points if sweep.faults(point)] == [
        {"train.n_head": 3, "train.d_model": 128}
    ]
