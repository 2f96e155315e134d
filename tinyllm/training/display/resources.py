"""Readings of what a run uses: CPU, memory, GPU memory; named as MLflow's system metrics are."""

import time
from contextlib import suppress

import psutil
import torch


class Resources:
    """Reads the machine's load at most once in `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._last = time.monotonic()
        _read()  # the first has nothing to compare the CPU's with

    def read(self) -> dict[str, float]:
        """The readings; nothing if the last are still fresh."""
        now = time.monotonic()
        if now - self._last < self.interval:
            return {}
        self._last = now
        return _read()


def _read() -> dict[str, float]:
    """Percentages of all CPUs and of all memory, sizes in megabytes.

    Nothing where the system does not tell: some containers close /proc, and no training stops for
    its load.
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
