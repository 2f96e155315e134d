"""How a stage ends: what its exit status says, and what a person reads."""

from pathlib import Path

import pytest

from tinyllm.common import console


def test_what_a_user_can_mend_is_one_plain_line() -> None:
    def fail() -> None:
        raise ValueError("train.dropout = 2: must be less than 1")

    with pytest.raises(SystemExit) as ended:
        console.run(fail)
    assert ended.value.code == "error: train.dropout = 2: must be less than 1"  # status 1


def test_a_file_that_can_not_be_read_is_one_plain_line() -> None:
    def fail() -> None:
        Path("no/such/file").read_text()

    with pytest.raises(SystemExit) as ended:
        console.run(fail)
    assert str(ended.value.code).startswith("error: ")


def test_an_interruption_is_no_success() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        console.run(interrupt)
    assert ended.value.code == 130


def test_a_bug_keeps_its_trace() -> None:
    def bug() -> None:
        raise AssertionError

    with pytest.raises(AssertionError):
        console.run(bug)
