"""What a benchmark prints when one of its two programs fails."""

import signal
import sys

import pytest

from benchmarks.pairs import worker


def test_a_worker_that_ends_says_why() -> None:
    with worker("start", "--no-such-option", "words") as broken:
        with pytest.raises(ChildProcessError) as raised:
            broken.round()
        first, *_, last = str(raised.value).splitlines()
        assert first.startswith(f"{sys.executable} -m benchmarks.workers.start --no-such-option")
        assert first.endswith(" ended with status 2")
        assert "unrecognized arguments: --no-such-option" in last


def test_so_does_one_that_fails_in_a_round_or_is_killed() -> None:
    with worker("start", "no-such-script.py") as failing:
        with pytest.raises(
            ChildProcessError, match=r"ended with status 1\n(.*\n)*.*no-such-script"
        ):
            failing.round()
        with pytest.raises(ChildProcessError, match="ended with status 1"):
            failing.round()  # as long as it is asked
    with worker("start", "tests/__init__.py") as killed:
        killed._process.send_signal(signal.SIGKILL)
        with pytest.raises(ChildProcessError, match=r"ended by SIGKILL\n\(it wrote no error\)"):
            killed.round()


def test_one_that_works_answers_each_round() -> None:
    with worker("start", "tests/__init__.py") as works:
        assert works.round() > 0 and works.round() > 0 and works.peak > 0
