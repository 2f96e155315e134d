"""The CPUs that a process may use."""

import os
from pathlib import Path

import pytest

from tinyllm.common import os_processes
from tinyllm.common.os_processes import available_cores, cpu_quota

ONE = "/docker/3f2a"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/"}, None),
        # Version 2: the container's group is mounted at the top, or the path is complete.
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": f"0::{ONE}", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": f"0::{ONE}", f"sys/fs/cgroup{ONE}/cpu.max": "20000 100000"}, 0.2),
        (  # the smallest limit of the parent groups applies
            {
                "proc/self/cgroup": "0::/user.slice/a.scope",
                "sys/fs/cgroup/user.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/user.slice/a.scope/cpu.max": "300000 100000",
            },
            2,
        ),
        # Version 1, by the name of one controller or of all that are mounted together.
        (
            {
                "proc/self/cgroup": f"12:memory:{ONE}\n4:cpu,cpuacct:{ONE}\n1:name=systemd:{ONE}",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": f"4:cpu:{ONE}\n0::/",
                f"sys/fs/cgroup/cpu{ONE}/cpu.cfs_quota_us": "50000",
                f"sys/fs/cgroup/cpu{ONE}/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "rubbish"}, None),
        ({}, None),  # not Linux
    ],
)
def test_the_quota_is_the_smallest_limit_of_the_groups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 8), (1.0, 1), (1.5, 2), (0.1, 1), (8.0, 8), (64.0, 8)]
)
def test_a_containers_quota_counts_as_cores(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os_processes, "cpu_quota", lambda: quota)
    assert available_cores() == cores
