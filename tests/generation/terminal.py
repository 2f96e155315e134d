"""A pseudo-terminal that runs `tinyllm` commands, and a small model folder for them."""

import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import psutil

from tests.helpers import ROOT, random_model, tiny_config
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.folder import save_model

PATIENCE = 300.0  # seconds


def save_small(folder: Path, tokenizer: Tokenizer, seed: int = 1) -> Path:
    """Save a model of random weights."""
    save_model(folder, random_model(tiny_config(vocab_size=tokenizer.vocab_size), seed), tokenizer)
    return folder


def environment(**changes: str) -> dict[str, str]:
    """The environment without what changes a command's colours and addresses."""
    foreign = ("NO_COLOR", "TERM", "DVC_ROOT")
    kept = {k: v for k, v in os.environ.items() if k not in foreign and not k.startswith("MLFLOW_")}
    return kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm", **changes}


def tinyllm(
    *arguments: str, cwd: Path, data: bytes = b"", **changes: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with standard input from a pipe."""
    command = [sys.executable, "-m", "tinyllm", *arguments]
    world = environment(**changes)
    return subprocess.run(
        command, cwd=cwd, env=world, input=data, capture_output=True, check=False, timeout=PATIENCE
    )


class Terminal:
    """A command on a terminal of its own, which is its controlling one."""

    def __init__(self, *arguments: str, cwd: Path, **changes: str) -> None:
        self.shown = ""
        self._read_until = 0  # of `shown`
        self._process, self._screen = pty.fork()
        if self._process == 0:
            os.chdir(cwd)
            world = environment(**changes)
            os.execve(sys.executable, [sys.executable, "-m", "tinyllm", *arguments], world)
        self.modes = self.settings()

    def settings(self) -> list[Any]:
        """The terminal's modes: echo, line editing, and so on."""
        return termios.tcgetattr(self._screen)

    def type(self, keys: str) -> None:
        """Type some keys; "\x03" is Ctrl-C, "\x04" is Ctrl-D."""
        os.write(self._screen, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text is shown, after what was waited for last."""
        deadline = time.monotonic() + PATIENCE
        while (at := self.shown.find(text, self._read_until)) < 0:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown!r}"
            assert self._read(), f"the command ended: {self.shown!r}"
        self._read_until = at + len(text)

    def wait_for_input(self) -> None:
        """Wait until the command has nothing more to do than to read a key."""
        command, deadline = psutil.Process(self._process), time.monotonic() + PATIENCE
        while command.status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < deadline, f"{command.status()} after {self.shown!r}"
            time.sleep(0.01)

    def end(self) -> int:
        """Read until the command ends. Returns its exit status."""
        while self._read():
            pass
        _, status = os.waitpid(self._process, 0)
        os.close(self._screen)
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        if not select.select([self._screen], [], [], PATIENCE)[0]:
            raise AssertionError(f"nothing is shown any more: {self.shown!r}")
        try:
            data = os.read(self._screen, 1 << 16)
        except OSError:  # Linux reports a terminal without processes so
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
