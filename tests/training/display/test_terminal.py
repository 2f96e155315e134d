"""A training continues and is saved if its terminal or output file fails."""

import errno
import fcntl
import os
import pty
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.project import TRAIN, Stage, final_state


def print_to(descriptor: int) -> None:
    """Make this process print to a descriptor, including non-ASCII letters."""
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", encoding="latin-1", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="latin-1", buffering=1, closefd=False)  # noqa: SIM115


def a_pipe_that_is_closed() -> None:
    """`dvc repro | head`"""
    reader, writer = os.pipe()
    print_to(writer)
    _read_a_little(reader)


def a_terminal_that_goes_away() -> None:
    """A lost connection under `nohup`, or a closed window with a training in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminal, writer = pty.openpty()
    print_to(writer)
    assert sys.stderr.isatty()  # so that a bar is drawn
    _read_a_little(terminal)


def a_full_disk() -> None:
    """`dvc repro > log`"""
    print_to(os.open("/dev/full", os.O_WRONLY))


def _read_a_little(reader: int) -> None:
    def read() -> None:
        os.read(reader, 1)
        os.close(reader)

    threading.Thread(target=read).start()


@pytest.mark.parametrize("lost", [a_pipe_that_is_closed, a_terminal_that_goes_away, a_full_disk])
def test_a_training_that_cannot_print_gives_the_same_result(
    project: Path, untouched: dict[str, bytes], lost: Callable[[], None]
) -> None:
    training = Stage(project, "train", *TRAIN, before=lost)
    assert training.wait() == 0
    assert final_state(project) == untouched


def no_locks() -> None:
    """A file system without flock, like Lustre or old NFS."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = flock


def test_a_training_without_locks_gives_the_same_result(
    project: Path, untouched: dict[str, bytes]
) -> None:
    first = Stage(project, "train", *TRAIN, before=no_locks, slow=0.02)
    markers = ".tinyllm/trainings/*/lock.holder"
    first.wait_until(
        lambda: (
            [m.read_text().splitlines()[:1] for m in project.glob(markers)] == [[str(first.pid)]]
        )
    )
    assert first.wait() == 0
    assert first.printed().count("does not support flock") == 1
    assert not list(project.glob(markers))
    assert final_state(project) == untouched
