"""Starting the process that sends a journal to MLflow, and waiting for it, but not for long."""

import os
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from tinyllm.common.files import project_root

LOG = "follower.log"
PATIENCE = 5.0  # seconds that the end of a stage waits for MLflow
LONGEST = 500  # characters of a reason


def follow(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that sends a journal to MLflow as it grows.

    It lives in a session of its own, so that an interruption of the stage leaves it to finish, and
    learns from the end of its standard input that the stage is gone, however that happened.
    """
    code = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    with open(folder / LOG, "ab", opener=partial(os.open, mode=0o600)) as log:
        return subprocess.Popen(
            # -P: the code beside this file, not what the project's root may hold meanwhile
            [sys.executable, "-P", "-m", "tinyllm.tracking.sender", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "DVC_ROOT": str(project_root()),
                "PYTHONPATH": path,
                "PYTHONIOENCODING": "utf-8",
            },
            start_new_session=True,
        )


def wait_for(follower: subprocess.Popen[bytes] | None, log: Path) -> None:
    """Let a follower send the rest, for a few seconds at most; it goes on alone after that."""
    failed = True
    if follower is not None:
        assert follower.stdin is not None
        with suppress(OSError):  # it is gone already
            # A forked worker may hold the pipe open too, so that closing it would not be noticed.
            os.write(follower.stdin.fileno(), b"\n")
            follower.stdin.close()
        try:
            failed = follower.wait(PATIENCE) != 0
        except subprocess.TimeoutExpired:
            print("MLflow gets the rest of this run in the background.", file=sys.stderr)
            return
    if failed:
        print(
            f"MLflow has not got all of this run{_last_line(log)}. Nothing is lost: the next stage "
            "or `tinyllm sync` sends the rest.",
            file=sys.stderr,
        )


def _last_line(log: Path) -> str:
    with suppress(OSError):
        if lines := log.read_text(encoding="utf-8", errors="replace").split("\n")[-2:-1]:
            return f" ({lines[0].partition(': ')[2][:LONGEST]})"
    return ""
