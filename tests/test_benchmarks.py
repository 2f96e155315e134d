"""Errors of a benchmark whose worker fails, and the page of results."""

import signal
import sys

import pytest

from benchmarks import results
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


HEAD = [("1", "training", "a peer", "≥ 2"), ("2", "scoring", "a peer", "-")]


def test_a_run_replaces_the_rows_it_measured_of_its_own_processor_alone() -> None:
    found: results.Results = {}
    for where, number, cell in (("A", "1", "old"), ("B", "1", "other"), ("A", "2", "kept")):
        results.add_row(results.record(found, where, "torch 1"), number, cell)
    results.add_row(results.record(found, "A", "torch 2"), "1", "new")
    page = results.page(found, HEAD)
    assert "| # | measure | peer | goal | A; torch 2 | B; torch 1 |" in page
    day = results.today()
    assert f"| 1 | training | a peer | ≥ 2 | new; {day} | other; {day} |" in page
    assert f"| 2 | scoring | a peer | - | kept; {day} |  |" in page
    assert "old;" not in page


def test_a_table_of_its_own_names_its_processor() -> None:
    found: results.Results = {}
    results.add_table(results.record(found, "A", "torch 1"), "6: a text", "| x |")
    assert f"## 6: a text\n\nA, {results.today()}\n\n| x |" in results.page(found, HEAD)
