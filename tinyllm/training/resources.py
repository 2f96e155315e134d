"""Readings of what a run uses: CPU, memory, GPU memory; named as MLflow's system metrics are."""

import time

import psutil
import torch


class Resources:
    """Reads the machine's load at most once in `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._process = psutil.Process()
        self._last = time.monotonic()
        psutil.cpu_percent()  # the first call has nothing to compare with

    def read(self) -> dict[str, float]:
        """The readings; nothing if the last are still fresh.

        Percentages are of all CPUs and of all memory, sizes in megabytes.
        """
        now = time.monotonic()
        if now - self._last < self.interval:
            return {}
        self._last = now
        memory = psutil.virtual_memory()
        readings = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),  # since the last reading
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
            "system/process_memory_megabytes": self._process.memory_info().rss / 1e6,
        }
        if torch.cuda.is_initialized():
            gpu = f"system/gpu_{torch.cuda.current_device()}_memory_usage_megabytes"
            readings[gpu] = torch.cuda.memory_reserved() / 1e6
        return readings
