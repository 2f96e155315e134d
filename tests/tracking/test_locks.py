"""Locks are held by one process at a time, also on file systems without flock."""

import errno
import fcntl
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.helpers import ALL_POINTS, PYTHON, ROOT, Project, finish
from tinyllm.tracking.locks import Lock, _say_once

# Replaces the C library's flock, as on Lustre without -o flock and on old NFS.
NO_FLOCK = """
#include <errno.h>
#include <stdlib.h>
int flock(int file, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""


@pytest.fixture(scope="module")
def no_flock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process on file systems without flock."""
    folder = tmp_path_factory.mktemp("preload")
    (folder / "no_flock.c").write_text(NO_FLOCK)
    command = ["gcc", "-shared", "-fPIC", "-o", "no_flock.so", "no_flock.c"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler")
    return {"LD_PRELOAD": str(folder / "no_flock.so"), "FLOCK_ERRNO": str(errno.ENOSYS)}


@pytest.fixture(params=["flock", errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def lock(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Lock]:
    """Makes locks on one file, on a file system with flock or one that returns an error."""
    if request.param != "flock":

        def flock(*_: Any) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(fcntl, "flock", flock)
    return lambda: Lock(tmp_path / "lock", tmp_path / "lock.holder")


def test_a_lock_is_held_until_released(lock: Callable[[], Lock]) -> None:
    first, second = lock(), lock()
    assert not first.is_held()
    assert first.acquire()
    assert not second.acquire() and second.is_held()
    first.release()
    assert second.acquire()
    second.release()
    first.release()  # has no effect


def test_a_killed_process_holds_no_lock(lock: Callable[[], Lock], tmp_path: Path) -> None:
    code = (
        "import fcntl, os, sys; from pathlib import Path; from tinyllm.tracking.locks import Lock\n"
        "if sys.argv[1] == 'soft':\n"
        "    def flock(*_): raise OSError(38, 'Function not implemented')\n"
        "    fcntl.flock = flock\n"
        "lock = Lock(Path('lock'), Path('lock.holder')); assert lock.acquire()\n"
        "print('locked', flush=True); os.read(0, 1)"
    )
    soft = "hard" if fcntl.flock.__module__ == "fcntl" else "soft"
    holder = subprocess.Popen(
        [PYTHON, "-c", code, soft],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
    other = lock()
    assert other.is_held() and not other.acquire()
    if soft == "soft":
        assert str(holder.pid) in other.holder() and "lock.holder" in other.holder()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert not other.is_held()
    assert other.acquire(patience=5)
    other.release()


def test_missing_flock_is_reported_once(
    lock: Callable[[], Lock], capsys: pytest.CaptureFixture[str]
) -> None:
    _say_once.cache_clear()
    for _ in range(3):
        made = lock()
        made.acquire()
        made.release()
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == (0 if fcntl.flock.__module__ == "fcntl" else 1)


def test_runs_are_recorded_and_sent_without_locks(
    project: Project, no_flock: dict[str, str]
) -> None:
    fine, killed = project.start("fine", **no_flock), project.start("killed", **no_flock)
    assert "its stage is running" in project.sync(**no_flock).stdout
    killed.kill()
    killed.communicate()
    _, errors = finish(fine)
    assert fine.returncode == 0, errors
    assert errors.count("does not support flock") == 1
    project.wait_until_sent()
    assert project.statuses() == {"fine": "FINISHED", "killed": "KILLED"}
    assert project.points(project.runs()["fine"]) == ALL_POINTS
