"""Other processes: check whether one is alive, and end with the process that started this one."""

import math
import os
import signal
import sys
import threading
import time
from pathlib import Path, PurePosixPath

import psutil

# A signal of its own: if a process group receives SIGTERM, this signal must not count as the second
# SIGTERM that training gets. It ends a process that has no handler for it.
STARTER_EXITED = signal.SIGUSR2
LAUNCHED = "TORCHELASTIC_RUN_ID"  # torch's launcher sets it for the processes that it starts
CHECK_INTERVAL = 0.5  # seconds between checks; starting a stage again takes longer


def is_alive(process: psutil.Process | int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def available_cores() -> int:
    """Return the CPUs that this process may use: in a container or a batch job, not all of them."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPU quota of this process by Linux's control groups, in CPUs; None: no limit.

    The limit of a group applies to every group below it. In a container, /proc/self/cgroup may name
    a path of the host while the container's group is mounted at the top: missing paths are skipped.
    """
    limits = []
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = ["sys/fs/cgroup"]  # version 2, all controllers in one tree
        if controllers:
            mounts = [f"sys/fs/cgroup/{name}" for name in ("cpu", controllers)]
        group = PurePosixPath(path.lstrip("/"))
        limits += [
            _group_quota(root / mount / part)
            for mount in mounts
            for part in (group, *group.parents)
        ]
    return min((limit for limit in limits if limit is not None), default=None)


def _group_quota(group: Path) -> float | None:
    """Return the limit of one control group, of version 2 (cpu.max) or 1 (cpu.cfs_*_us)."""
    numbers = " ".join(_lines(group / "cpu.max")).split()
    if not numbers:
        numbers = [*_lines(group / "cpu.cfs_quota_us"), *_lines(group / "cpu.cfs_period_us")]
    try:
        quota, period = map(int, numbers)
    except ValueError:  # "max 100000", or the files are missing
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def launcher() -> psutil.Process | None:
    """Return the launcher of this process if it is one of several that share a training."""
    return psutil.Process().parent() if LAUNCHED in os.environ else None


def end_with(starter: psutil.Process, name: str) -> None:
    """Send STARTER_EXITED to this process when the process that started it exits.

    Args:
        name: Name of that process, for the message.
    """
    threading.Thread(target=_watch, args=(starter, name), daemon=True).start()


def _watch(starter: psutil.Process, name: str) -> None:
    while is_alive(starter):
        time.sleep(CHECK_INTERVAL)
    try:
        print(f"the {name} that started this process has exited", file=sys.stderr, flush=True)
    finally:  # standard error may be closed too
        os.kill(os.getpid(), STARTER_EXITED)
