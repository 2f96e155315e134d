"""Errors of a benchmark whose worker fails."""

import signal
import sys

import pytest

from benchmarks.pairs import worker


def test_the_error_of_a_worker_that_exits_contains_its_output() -> None:
    with worker("start", "--no-such-option", "words") as broken:
        with pytest.raises(ChildProcessError) as raised:
            broken.round()
        first, *_, last = str(raised.value).splitlines()
        assert first.startswith(f"{sys.executable} -m benchmarks.workers.start --no-such-option")
        assert first.endswith(" exited with status 2")
        assert "unrecognized arguments: --no-such-option" in last


def test_so_does_the_error_of_one_that_fails_in_a_round_or_is_killed() -> None:
    with worker("start", "no-such-script.py") as failing:
        with pytest.raises(
            ChildProcessError, match=r"exited with status 1\n(.*\n)*.*no-such-script"
        ):
            failing.round()
        with pytest.raises(ChildProcessError, match="exited with status 1"):
            failing.round()  # every further round fails too
    with worker("start", "tests/__init__.py") as killed:
        killed._process.send_signal(signal.SIGKILL)
        with pytest.raises(ChildProcessError, match=r"by SIGKILL\n\(it wrote no error\)"):
            killed.round()


def test_a_working_worker_answers_each_round() -> None:
    with worker("start", "tests/__init__.py") as works:
        assert works.round() > 0 and works.round() > 0 and works.peak > 0
