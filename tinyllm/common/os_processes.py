"""Other processes: whether one is alive, and ending a stage whose DVC is not.

DVC killed with SIGKILL leaves its stage behind, and the next `dvc repro` starts another beside it.
"""

import math
import os
import signal
import sys
import threading
import time
from pathlib import Path, PurePosixPath

import psutil

# Of its own: where a whole group of processes got SIGTERM, it must not count as training's second
# one. It ends a process that has no handler for it.
DVC_IS_GONE = signal.SIGUSR2
STAGE = "DVC_STAGE"  # DVC sets this variable for the stages that it runs
LAUNCHED = "TORCHELASTIC_RUN_ID"  # torch's launcher sets it for the processes that it starts
CHECK_INTERVAL = 0.5  # seconds between looks for DVC, which takes longer to start a stage again


def is_alive(process: psutil.Process | int) -> bool:
    """Whether a process runs; one that has ended, but that nobody has waited for, does not."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def available_cores() -> int:
    """CPUs that this process may use, fewer than the machine's in a container or a batch job."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that Linux's control groups leave this process; None: no limit.

    A group's limit holds for all below it. In a container, /proc/self/cgroup may name the host's
    path, while the container's own group is mounted at the top: paths that are missing are skipped.
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
    """The limit of one control group, of version 2 (cpu.max) or 1 (cpu.cfs_*_us)."""
    numbers = " ".join(_lines(group / "cpu.max")).split()
    if not numbers:
        numbers = [*_lines(group / "cpu.cfs_quota_us"), *_lines(group / "cpu.cfs_period_us")]
    try:
        quota, period = map(int, numbers)
    except ValueError:  # "max 100000", or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def end_with_starter() -> None:
    """Have this process get DVC_IS_GONE once the DVC that started it, if any did, has ended.

    Of several processes that share a training, only their launcher was started by DVC; they end
    with the launcher.
    """
    launched = LAUNCHED in os.environ
    starter = psutil.Process().parent() if launched else _dvc()
    if starter is not None:
        name = "launcher" if launched else "DVC process"
        threading.Thread(target=_watch, args=(starter, name), daemon=True).start()


def _watch(starter: psutil.Process, name: str) -> None:
    while is_alive(starter):
        time.sleep(CHECK_INTERVAL)
    try:
        print(f"the {name} that started this is gone", file=sys.stderr, flush=True)
    finally:  # what it printed to may be gone too
        os.kill(os.getpid(), DVC_IS_GONE)


def _dvc() -> psutil.Process | None:
    """The process that started this stage, perhaps through a shell; None without DVC."""
    if STAGE not in os.environ:
        return None
    for ancestor in psutil.Process().parents():
        try:
            if STAGE not in ancestor.environ():  # so it is the one that set it
                return ancestor
        except psutil.Error:  # it is another user's, or has ended meanwhile
            continue
    return None
