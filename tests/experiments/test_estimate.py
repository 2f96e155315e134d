"""The estimate of a training too long to be timed."""

import pytest

from tests.helpers import ROOT, tiny_config, train_settings
from tinyllm.compute import choose
from tinyllm.experiments import estimate
from tinyllm.settings.hardware import Hardware
from tinyllm.settings.load import load_params


def test_the_optimizer_is_counted_once_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the optimizer took 30 s, and each sequence one."""
    monkeypatch.setattr(estimate, "_step", lambda _state, _settings, rows: 30.0 + rows)
    hardware: Hardware = load_params(ROOT / "params.yaml").hardware
    settings = train_settings(batch_size=16, max_steps=10)
    found = estimate.estimate(tiny_config(), settings, choose(hardware))
    assert found.training == pytest.approx(10 * 46)
