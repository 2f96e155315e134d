"""Starting the process that sends a journal to MLflow, and waiting briefly for it."""

import os
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from tinyllm.common.files import ROOT, project_root
from tinyllm.tracking.folders import sent_folder

LOG = "follower.log"
PATIENCE = 5.0  # seconds that a stage waits for MLflow at its end
LONGEST = 500  # characters shown of a reason
NEWS = "registered as "  # how a line begins that the stage prints too


def follow(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that sends a journal to MLflow as it grows.

    It runs in its own session, so that it can finish when the stage is interrupted. The end of its
    standard input shows it that the stage has exited, for any reason.
    """
    code = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    with open(folder / LOG, "ab", opener=partial(os.open, mode=0o600)) as log:
        return subprocess.Popen(
            # -P: run the code beside this file, even if the project's root has changed since
            [sys.executable, "-P", "-m", "tinyllm.tracking.sender", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                ROOT: str(project_root()),
                "PYTHONPATH": path,
                "PYTHONIOENCODING": "utf-8",
            },
            start_new_session=True,
        )


def wait_for(follower: subprocess.Popen[bytes] | None, log: Path) -> None:
    """Wait a few seconds for a follower to send the rest; after that it continues alone."""
    failed = True
    if follower is not None:
        assert follower.stdin is not None
        with suppress(OSError):  # it has exited
            # Closing is not enough: a forked worker may hold the pipe open too.
            os.write(follower.stdin.fileno(), b"\n")
            follower.stdin.close()
        try:
            failed = follower.wait(PATIENCE) != 0
        except subprocess.TimeoutExpired:
            print("Sending the rest of this run to MLflow in the background.", file=sys.stderr)
            return
    for line in _lines(log):
        if line.startswith(NEWS):
            print(f"MLflow: {line}", file=sys.stderr)
    if failed:
        print(
            f"MLflow has not received all of this run{_last_line(log)}. Nothing is lost: the next "
            "stage or `tinyllm sync` sends the rest.",
            file=sys.stderr,
        )


def _last_line(log: Path) -> str:
    return "".join(f" ({line[:LONGEST]})" for line in _lines(log)[-1:])


def _lines(log: Path) -> list[str]:
    """What a follower printed, without the journal's name."""
    name = log.parent.name
    for folder in (log.parent, sent_folder() / name):  # in this order: a sender may move it
        with suppress(OSError):
            lines = (folder / log.name).read_text(encoding="utf-8", errors="replace").splitlines()
            return [line.removeprefix(f"{name}: ") for line in lines]
    return []
