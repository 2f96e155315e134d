"""Readings of the machine respect the interval, under the names of MLflow's system metrics."""

import time
from typing import Any

import psutil
import pytest

from tinyllm.training.display.resources import Resources


def test_readings_respect_the_interval() -> None:
    resources = Resources(interval=0.1)
    assert resources.read() == {}  # CPU load is measured between two readings
    time.sleep(0.11)
    assert resources.read()
    assert resources.read() == {}
    assert Resources(interval=3600).read() == {}


def test_readings_are_plausible_and_have_mlflows_names() -> None:
    resources = Resources(interval=0.05)
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:  # keep a CPU busy
        pass
    readings = resources.read()
    assert all(name.startswith("system/") for name in readings)
    assert 0 < readings["system/cpu_utilization_percentage"] <= 100
    assert 0 < readings["system/system_memory_usage_percentage"] <= 100
    process = readings["system/process_memory_megabytes"]
    assert 10 < process < 1e6


def test_a_system_without_readings_does_not_stop_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", "/proc/stat")

    monkeypatch.setattr(psutil, "cpu_percent", closed)
    assert Resources(interval=0).read() == {}
