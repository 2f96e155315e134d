"""Readings of what a run uses: CPU, memory, GPU memory; named as MLflow's system metrics are."""

import time
from dataclasses import dataclass, field

import psutil
import torch


@dataclass
class Resources:
    """Reads the machine's load at most once in `interval` seconds."""

    interval: float
    _process: psutil.Process = field(default_factory=psutil.Process)
    _last: float = float("-inf")

    def read(self) -> dict[str, float] | None:
        """The readings, or None if the last are still fresh.

        Percentages are of all CPUs, sizes in megabytes.
        """
        now = time.monotonic()
        if now - self._last < self.interval:
            return None
        first = self._last == float("-inf")
        self._last = now
        load = psutil.cpu_percent()  # since the last reading
        if first:
            return None
        memory = psutil.virtual_memory()
        readings = {
            "system/cpu_utilization_percentage": load,
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
            "system/process_memory_megabytes": self._process.memory_info().rss / 1e6,
        }
        if torch.cuda.is_initialized():
            readings["system/gpu_0_memory_usage_megabytes"] = torch.cuda.memory_reserved() / 1e6
        return readings
