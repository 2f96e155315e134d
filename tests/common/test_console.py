"""How a stage ends: its exit status and its message."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tinyllm.common import console


def test_an_error_that_the_user_can_fix_is_a_single_line() -> None:
    def fail() -> None:
        raise ValueError("train.dropout = 2: must be less than 1")

    with pytest.raises(SystemExit) as ended:
        console.run(fail)
    assert ended.value.code == "error: train.dropout = 2: must be less than 1"  # status 1


def test_an_unreadable_file_is_a_single_line() -> None:
    def fail() -> None:
        Path("no/such/file").read_text()

    with pytest.raises(SystemExit) as ended:
        console.run(fail)
    assert str(ended.value.code).startswith("error: ")


def test_no_error_prints_a_password() -> None:
    def fail() -> None:
        raise ValueError("https://me:secret@host/a.txt?token=abc could not be downloaded: 404")

    with pytest.raises(SystemExit) as ended:
        console.run(fail)
    assert ended.value.code == (
        "error: https://me:***@host/a.txt?token=*** could not be downloaded: 404"
    )


def test_an_interruption_is_not_a_success() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        console.run(interrupt)
    assert ended.value.code == 130


def test_an_ending_process_does_not_look_for_garbage() -> None:
    code = (
        "import atexit, gc; from tinyllm.common import console; "
        "atexit.register(lambda: print(gc.get_freeze_count() > 0)); console.run(lambda: None)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout == "True\n"


def test_a_bug_keeps_its_traceback() -> None:
    def bug() -> None:
        raise AssertionError

    with pytest.raises(AssertionError):
        console.run(bug)


# Runs a main function as the stages do; prints text that few encodings have, a warning and a bar.
PROGRAM = """
import sys, warnings
from tqdm import tqdm
from tinyllm.common import console

def main():
    print("你好 \\ud800 🏃 ü")
    sys.stdout.flush()
    print("plain", file=sys.stderr, flush=True)
    warnings.warn("é€")
    for _ in tqdm(range(3), disable=False):
        print("x" * 100_000)
    open(sys.argv[1], "w").write("done")
    sys.argv[2:] and sys.exit("error: 你好")

console.run(main)
"""


def shell(command: str, done: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which `$RUN` is that program."""
    program = " ".join(shlex.quote(part) for part in (sys.executable, "-c", PROGRAM, str(done)))
    return subprocess.run(
        ["bash", "-c", command.replace("$RUN", program)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("latin-1", b"\\u4f60\\u597d \\ud800 \\U0001f3c3 \xfc"),
        ("ascii:strict", b"\\u4f60\\u597d \\ud800 \\U0001f3c3 \\xfc"),
        ("gbk:strict", b"\xc4\xe3\xba\xc3 \\ud800 \\U0001f3c3 \xa8\xb9"),
        ("idna", b"\\u4f60\\u597d \\ud800 \\U0001f3c3 \\xfc"),
        ("utf-8", "你好 \\ud800 🏃 ü".encode()),
        ("utf-16", "你好 \\ud800 🏃 ü".encode("utf-16-le")),
    ],
)
def test_printing_works_in_any_encoding(tmp_path: Path, encoding: str, shown: bytes) -> None:
    printed = shell("$RUN", tmp_path / "done", PYTHONIOENCODING=encoding)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith(shown)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "command",
    [
        "$RUN | true",
        "$RUN 2>&1 | head -c 1",
        "$RUN > /dev/full 2> /dev/full",
        "$RUN >&- 2>&-",
        "$RUN < /dev/null >&- | true",
    ],
)
def test_output_that_can_not_be_printed_is_dropped(tmp_path: Path, command: str) -> None:
    done = shell(f"set -o pipefail; {command}", tmp_path / "done", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("command", ["$RUN fail 2>&1 | true", "$RUN fail >&- 2>&-"])
def test_a_failure_that_can_not_be_printed_is_still_a_failure(tmp_path: Path, command: str) -> None:
    done = shell(f"set -o pipefail; {command}", tmp_path / "done", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 1


def test_a_nonblocking_pipe_gets_all_output(tmp_path: Path) -> None:
    """Some terminals and job runners pass descriptors that refuse writes while they are full."""
    slow = "import os, sys, time; os.set_blocking(1, False); os.execv(sys.argv[1], sys.argv[1:])"
    starter = " ".join(shlex.quote(part) for part in (sys.executable, "-c", slow))
    done = shell(f"{starter} $RUN | (sleep 1; wc -c)", tmp_path / "done", PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len("你好 \\ud800 🏃 ü\n".encode()) + 3 * 100_001


# Hides what Python lacks on Windows: fcntl, most signals, sessions. Imports the standard library
# first, since it also checks the system.
WINDOWS = """
import argparse, pathlib, runpy, signal, subprocess, sys, typing, os
import click
os.name, sys.platform = "nt", "win32"
sys.modules |= dict.fromkeys(("fcntl", "resource", "pwd", "termios"))
for module, names in ((signal, "SIGUSR2 SIGHUP SIGKILL"), (os, "setpgrp getsid setpriority")):
    for name in names.split():
        delattr(module, name)
sys.argv = [sys.argv[1], "--help"]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "module", ["tinyllm", *(f"stages.{p.stem}" for p in (ROOT / "stages").glob("[a-z]*.py"))]
)
def test_on_windows_an_error_says_what_to_do(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS, module],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{console.NO_WINDOWS}\n" and "WSL" in done.stderr
