"""A run's name shows what is special about it."""

import pytest

from tinyllm.experiments.run_name import run_name

PLAIN = "params.yaml at 1234567"
MANY = {f"train.s{number}": str(number) for number in range(6)}


@pytest.mark.parametrize(
    ("settings", "code", "experiment", "name"),
    [
        ({}, False, None, PLAIN),
        ({}, True, None, f"{PLAIN} + changed code"),
        ({}, False, "runny-chic", "runny-chic"),
        ({}, True, "runny-chic", "changed code (runny-chic)"),
        ({"train.n_layer": "6", "seed": "2"}, False, None, "n_layer=6 seed=2"),
        ({"train.n_layer": "6"}, False, "runny-chic", "n_layer=6 (runny-chic)"),
        ({"train.n_layer": "6"}, True, "wide", "n_layer=6 + changed code (wide)"),
        # Two sections have a batch_size.
        ({"evaluate.batch_size": "8"}, False, None, "evaluate.batch_size=8"),
        ({"runtime.num_workers": "3"}, False, None, PLAIN),
        (MANY, False, None, "s0=0 s1=1 s2=2 3 more settings"),
        ({"download.path": "'a\n  b'"}, False, None, "download.path='a b'"),
        ({"download.path": "x" * 99}, False, None, f"download.path={'x' * 23}…"),
    ],
)
def test_names(settings: dict[str, str], code: bool, experiment: str | None, name: str) -> None:
    assert run_name(settings, code, PLAIN, experiment) == name
