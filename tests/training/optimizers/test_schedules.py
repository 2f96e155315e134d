"""The learning rate at its ends and in between."""

from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import pytest

from tests.helpers import train_settings
from tinyllm.settings.train import Train
from tinyllm.training.optimizers.schedules import SCHEDULES, learning_rate

SETTINGS = train_settings(
    max_steps=100, warmup_steps=10, decay_steps=80, learning_rate=0.01, min_learning_rate=0.001
)


def test_the_first_step_has_a_rate_and_the_first_after_warm_up_the_full_rate() -> None:
    assert learning_rate(0, SETTINGS) == pytest.approx(0.01 / 11)
    assert learning_rate(9, SETTINGS) == pytest.approx(0.01 * 10 / 11)
    assert learning_rate(10, SETTINGS) == pytest.approx(0.01)


def test_warm_up_is_linear() -> None:
    rates = [learning_rate(step, SETTINGS) for step in range(11)]
    for before, after in pairwise(rates):
        assert after - before == pytest.approx(0.01 / 11)


def test_the_cosine_falls_to_the_minimum_and_stays_there() -> None:
    rates = [learning_rate(step, SETTINGS) for step in range(10, 81)]
    assert all(after < before for before, after in pairwise(rates))
    assert learning_rate(45, SETTINGS) == pytest.approx((0.01 + 0.001) / 2)  # half-way
    assert learning_rate(79, SETTINGS) == pytest.approx(0.001, rel=0.01)
    assert {learning_rate(step, SETTINGS) for step in range(80, 120)} == {0.001}


def test_the_linear_schedule_falls_by_as_much_each_step_to_the_same_end() -> None:
    settings = SETTINGS.model_copy(update={"schedule": "linear"})
    rates = [learning_rate(step, settings) for step in range(10, 81)]
    assert rates[0] == pytest.approx(0.01) and rates[-1] == 0.001
    for before, after in pairwise(rates):
        assert before - after == pytest.approx(0.009 / 70)


def test_wsd_stays_the_highest_until_the_cooldown() -> None:
    settings = SETTINGS.model_copy(update={"schedule": "wsd", "cooldown_fraction": 0.4})
    rates = [learning_rate(step, settings) for step in range(10, 81)]
    assert rates[:43] == pytest.approx([0.01] * 43)  # 42 of the 70 steps after warm-up are stable
    assert all(after < before for before, after in pairwise(rates[42:]))
    assert rates[42 + 7] == pytest.approx(0.001 + 0.009 / 2)  # after a quarter of the fall
    assert rates[-1] == 0.001


@pytest.mark.parametrize("decay", SCHEDULES.values(), ids=SCHEDULES)
def test_every_schedule_falls_from_1_to_0(decay: Callable[[float, Train], float]) -> None:
    shares = [decay(n / 100, SETTINGS) for n in range(101)]
    assert shares[0] == 1 and shares[-1] == pytest.approx(0)
    assert all(after <= before for before, after in pairwise(shares))


def test_params_yaml_can_name_every_schedule_and_no_other() -> None:
    assert set(get_args(Train.model_fields["schedule"].annotation)) == SCHEDULES.keys()


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert learning_rate(0, train_settings(warmup_steps=0)) == 0.01


def test_without_decay_steps_the_cosine_ends_with_training() -> None:
    derived = train_settings(max_steps=100, warmup_steps=10, decay_steps=None)
    given = train_settings(max_steps=100, warmup_steps=10, decay_steps=100)
    for step in range(120):
        rate = learning_rate(step, given)
        assert learning_rate(step, derived) == learning_rate(step, derived.resolve()) == rate
    assert learning_rate(99, derived) > 0


def test_every_setting_of_the_schedule_has_an_effect() -> None:
    base = [learning_rate(step, SETTINGS) for step in range(100)]
    for change in (
        {"learning_rate": 0.02}, {"min_learning_rate": 0.0}, {"warmup_steps": 11},
        {"decay_steps": 79}, {"schedule": "linear"}, {"schedule": "wsd"},
    ):  # fmt: skip
        changed = SETTINGS.model_copy(update=change)
        assert [learning_rate(step, changed) for step in range(100)] != base
    stable, shorter = (
        SETTINGS.model_copy(update={"schedule": "wsd", "cooldown_fraction": part})
        for part in (0.2, 0.1)
    )
    assert learning_rate(70, stable) < learning_rate(70, shorter)
