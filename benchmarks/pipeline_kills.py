"""Kill `dvc repro` in each stage at random moments, and check the result of the next one.

python -m benchmarks.pipeline_kills [--kills 10] [--seed 1]

It kills the stage's process or DVC in turn, with SIGKILL, in one stage after another of a tiny
pipeline. After the next `dvc repro`, dvc.lock and every output must equal those of an uninterrupted
run, and no half-written file may be left. A kill takes about half a minute. Exits with status 1 if
anything differs.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.pipeline import STAGES, Project, clone

FOLDERS = ("data", "models", "reports", ".tinyllm/trainings")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        untouched = make(Path(folder) / "untouched")
        lengths = stage_lengths(untouched)
        expected = untouched.outputs()
        print(f"{'stage':<10}{'killed':<8}{'after':>9}{'left':>6}  end", flush=True)
        for kill in range(args.kills):
            stage = STAGES[kill % len(STAGES)]
            victim = ("stage", "dvc")[kill % 2]  # five stages: the other one in the next round
            moment = chance.uniform(0, lengths[stage])
            project = make(Path(folder) / f"kill-{kill}")
            kill_in(project, stage, victim, moment)
            left = len(half_written(project))
            again = project.dvc("repro", check=False)
            same = project.outputs() == expected and not half_written(project)
            failures += not same
            result = "the same" if same else f"NOT the same\n{again.stdout}{again.stderr}"
            print(f"{stage:<10}{victim:<8}{moment:>7.2f} s{left:>6}  {result}", flush=True)
    print(f"{args.kills - failures} of {args.kills} ended with the same result")
    sys.exit(1 if failures else 0)


def make(root: Path) -> Project:
    """Make a repository with a tiny corpus and model, in which nothing has run."""
    root.mkdir()
    project = clone(root)
    project.set({"runtime.tracker": "none"})
    return project


def half_written(project: Project) -> list[Path]:
    return [left for name in FOLDERS for left in (project.root / name).rglob(".*.tmp")]


def start(project: Project) -> subprocess.Popen[str]:
    """Start `dvc repro`."""
    return subprocess.Popen(
        ["python", "-u", "-m", "dvc", "repro"],
        cwd=project.root,
        env=project.world(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def stage_lengths(project: Project) -> dict[str, float]:
    """Run everything. Returns the seconds of each stage."""
    process = start(project)
    begun = {}
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Running stage"):
            begun[line.split("'")[1]] = time.monotonic()
    assert process.wait() == 0
    ends = [*list(begun.values())[1:], time.monotonic()]
    return {stage: end - begun[stage] for stage, end in zip(STAGES, ends, strict=True)}


def kill_in(project: Project, stage: str, victim: str, moment: float) -> None:
    """Kill DVC or the stage's process some seconds after the stage started."""
    dvc = start(project)
    assert dvc.stdout is not None
    for line in dvc.stdout:
        if line.startswith(f"Running stage '{stage}'"):
            break
    time.sleep(moment)
    children = psutil.Process(dvc.pid).children(recursive=True)
    if victim == "dvc" or not children:  # there are none between two stages
        dvc.kill()
    else:
        children[-1].kill()
    dvc.wait()


if __name__ == "__main__":
    main()
