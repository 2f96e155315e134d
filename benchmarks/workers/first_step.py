"""Measures the time from the start of the default training to its first step, in starts/s.

The stage does everything before that step, but its evaluation at step 0 scores only 1,024 tokens.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.pairs import serve
from benchmarks.tokenize import ROOT, STAGES
from benchmarks.workers.shapes import parser
from tinyllm.settings import strict_yaml

TRAIN = [
    "--params", "params.yaml", "--tokenizer", "tokenizer", "--train", "train",
    "--validation", "validation", "--splits", "splits.json", "--model", "model",
    "--reports", "reports",
]  # fmt: skip


def main() -> None:
    parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        params = strict_yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["train"] |= {"eval_interval": 1, "eval_tokens": 1024}
        (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        for stage, arguments in STAGES.items():
            assert start(project, stage, arguments).wait() == 0
        serve(lambda: 1 / first_step(project))


def first_step(project: Path) -> float:
    """Seconds until training prints its first step."""
    shutil.rmtree(project / ".tinyllm", ignore_errors=True)
    started = time.perf_counter()
    with start(project, "train", TRAIN) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if re.match(r"step +1/", line):
                seconds = time.perf_counter() - started
                process.kill()
                return seconds
    raise RuntimeError("training ended before its first step")


def start(project: Path, stage: str, arguments: list[str]) -> "subprocess.Popen[str]":
    """Start a stage as DVC does."""
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(project)},
        stdout=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    main()
