"""Readings of CPU, memory and GPU memory, under the names of MLflow's system metrics."""

import time
from contextlib import suppress

import psutil
import torch


class Resources:
    """Reads the machine's load at most once every `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._last = time.monotonic()
        _read()  # CPU use is measured from one reading to the next

    def read(self) -> dict[str, float]:
        """The readings; empty if the last ones are more recent than `interval`."""
        now = time.monotonic()
        if now - self._last < self.interval:
            return {}
        self._last = now
        return _read()


def _read() -> dict[str, float]:
    """Percentages of all CPUs and of all memory, sizes in megabytes.

    Empty where the system hides its load (some containers close /proc): training continues.
    """
    with suppress(OSError, RuntimeError, psutil.Error):
        return _ask_system()
    return {}


def _ask_system() -> dict[str, float]:
    memory = psutil.virtual_memory()
    readings = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),  # since the last reading
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
    }
    if torch.cuda.is_initialized():
        gpu = f"system/gpu_{torch.cuda.current_device()}_memory_usage_megabytes"
        readings[gpu] = torch.cuda.memory_reserved() / 1e6
    return readings
