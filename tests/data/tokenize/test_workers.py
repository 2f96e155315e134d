"""Worker processes: results in order, and no process left behind."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.data.tokenize.tasks import die_at_seven, fail_at_seven, twice_later
from tests.helpers import ROOT
from tinyllm.data.tokenize.workers import Workers


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_come_in_the_order_of_the_tasks(count: int) -> None:
    with Workers(count) as workers:
        found = list(workers.map(twice_later, range(20)))
        assert found == [(number, 2 * number) for number in range(20)]
        assert list(workers.map(fail_at_seven, range(3))) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("work", "kind", "message"),
    [
        (fail_at_seven, ValueError, "^seven is wrong$"),
        (die_at_seven, ChildProcessError, "^one of 2 worker processes was killed"),
    ],
)
def test_an_error_in_a_worker_is_raised(
    work: Callable[[int], int], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message), Workers(2) as workers:
        list(workers.map(work, range(100)))
    # Multiprocessing keeps a cleanup process; all workers have exited.
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not any("spawn_main" in command for command in commands)


def test_few_bytes_need_no_workers() -> None:
    assert Workers.for_bytes(1000).count == 0
    assert Workers.for_bytes(1 << 40).count == len(os.sched_getaffinity(0))


ENDLESS = """
import time
from itertools import count
from tests.data.tokenize.tasks import twice_later
from tinyllm.data.tokenize.workers import Workers
if __name__ == "__main__":
    with Workers(2) as workers:
        for done in workers.map(twice_later, count()):
            print(done, flush=True)
"""


@pytest.fixture
def running() -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process]]]:
    """Run a process whose workers are busy."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(8):
        process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    yield process, children
    process.kill()
    for child in children:
        if child.is_running():
            child.kill()
    process.communicate()


def test_workers_exit_when_their_parent_is_killed(
    running: tuple["subprocess.Popen[str]", list[psutil.Process]],
) -> None:
    process, children = running
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
