"""How soon after its start the training of the default pipeline has taken a step, in starts/s.

All that the stage does before is done; but the evaluation of step 0 is of 1,024 tokens here.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pairs import serve
from benchmarks.workers.shapes import parser

ROOT = Path(__file__).resolve().parents[2]
SPLITS = "--train train --validation validation"
RAW = "--params params.yaml --raw raw"
BEFORE = (
    f"download {RAW}",
    f"tokenize {RAW} --tokenizer tokenizer --tokens tokens --reports corpus",
    f"split --tokens tokens {SPLITS} --test test --summary splits.json",
)
TRAIN = (
    f"train --params params.yaml --tokenizer tokenizer {SPLITS} --splits splits.json "
    "--model model --reports reports"
)


def main() -> None:
    parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        params = (ROOT / "params.yaml").read_text(encoding="utf-8")
        for name, value in {"eval_interval": 1, "eval_tokens": 1024}.items():
            params = re.sub(rf"( {name}:) \S+", rf"\1 {value}", params)
        (project / "params.yaml").write_text(params, encoding="utf-8")
        for command in BEFORE:
            assert start(project, command).wait() == 0
        serve(lambda: 1 / first_step(project))


def first_step(project: Path) -> float:
    """Seconds until training tells of its first step."""
    shutil.rmtree(project / ".tinyllm", ignore_errors=True)
    started = time.perf_counter()
    with start(project, TRAIN) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step    1/"):
                seconds = time.perf_counter() - started
                process.kill()
                return seconds
    raise RuntimeError("training ended before its first step")


def start(project: Path, command: str) -> "subprocess.Popen[str]":
    """Run a stage as DVC does."""
    return subprocess.Popen(
        [sys.executable, "-m", *f"stages.{command}".split()],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(project)},
        stdout=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    main()
