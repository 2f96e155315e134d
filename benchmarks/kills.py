"""Kill a small training with SIGKILL at random moments, and check that the result is unchanged.

python -m benchmarks.kills [--kills 50] [--within 10] [--seed 1]

First, it kills trainings once each, at a random moment of one of four phases in turn: starting,
training, saving (while a checkpoint is written), exporting; then it runs each again. Second, it
kills one training many times and counts the lost steps. Both compare the result with that of an
uninterrupted training, byte for byte: weights, optimizer, history and every output. Every process
starts as under `dvc repro`; a kill takes about 10 s. Exits with status 1 if anything differs.
"""

import argparse
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.helpers import ROOT
from tests.training.project import (
    INTERVAL,
    MAX_STEPS,
    TRAIN,
    checkpoint_steps,
    final_state,
    prepare,
    trainings,
)  # fmt: skip

PARTS = ("starting", "training", "saving", "exporting")
PROGRAM = """
import os, runpy, sys
from tinyllm.training.display.watch import Watch
file = os.open("steps.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
step = Watch.step
def counted(self, number, values):
    os.write(file, f"{number}\\n".encode())
    step(self, number, values)
Watch.step = counted
runpy.run_module("stages.train", run_name="__main__", alter_sys=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="trainings to kill once each")
    parser.add_argument("--within", type=int, default=10, help="kills of the one training")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared"
        prepare(prepared)
        for name in ("stages", "tinyllm"):  # copied, because they may be edited while this runs
            shutil.copytree(ROOT / name, prepared / name)
        project = fresh(prepared)
        lengths = untouched(project)
        state = final_state(project)
        print(
            "untouched: "
            + ", ".join(f"{part} {length:.2f} s" for part, length in lengths.items() if length),
            flush=True,
        )
        same = killed_once(prepared, state, lengths, args.kills, chance)
        same &= killed_often(prepared, state, args.within, chance)
    sys.exit(0 if same else 1)


def fresh(prepared: Path) -> Path:
    """A copy of the project in which nothing has been trained."""
    project = prepared.with_name("project")
    shutil.rmtree(project, ignore_errors=True)
    return Path(shutil.copytree(prepared, project))


def start(project: Path, *, counted: bool = False) -> subprocess.Popen[bytes]:
    """Start the training; `counted`: each completed step appends its number to steps.txt."""
    command = ["-c", PROGRAM] if counted else ["-m", "stages.train"]
    with (project / "printed.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *command, *TRAIN],
            cwd=project,
            env={
                **os.environ,
                "DVC_ROOT": str(project),
                "PYTHONPATH": str(project),
                "PYTHONUNBUFFERED": "1",
            },
            stdout=log,
            stderr=log,
        )


def printed(project: Path) -> str:
    return (project / "printed.txt").read_text()


def has_printed(project: Path, words: str) -> bool:
    return words in printed(project)


def has_done(steps: Path, count: int) -> bool:
    return steps.exists() and steps.read_text().count("\n") >= count


def wait_until(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    """Wait until a process has done something, or has exited."""
    while process.poll() is None and not reached():
        time.sleep(0.0005)


def untouched(project: Path) -> dict[str, float]:
    """Train to the end. Returns the seconds of each phase except saving."""
    moments = [time.monotonic()]
    process = start(project)
    for line in ("step  0/", f"step {MAX_STEPS}/"):
        wait_until(process, partial(has_printed, project, line))
        moments.append(time.monotonic())
    assert process.wait() == 0, printed(project)
    moments.append(time.monotonic())
    starting, training, exporting = (b - a for a, b in itertools.pairwise(moments))
    return {"starting": starting, "training": training, "saving": 0.0, "exporting": exporting}


def killed_once(
    prepared: Path, state: dict[str, bytes], lengths: dict[str, float], kills: int,
    chance: random.Random,
) -> bool:  # fmt: skip
    """Kill trainings once each. Returns whether all results are the same."""
    same: Counter[str] = Counter()
    torn, tried = 0, Counter(PARTS[kill % len(PARTS)] for kill in range(kills))
    for kill in range(kills):
        project, part = fresh(prepared), PARTS[kill % len(PARTS)]
        process = start(project)
        wait_for_part(process, project, part, chance)
        time.sleep(chance.uniform(0, lengths[part] or 0.004))
        process.kill()
        process.wait()
        torn += any(trainings(project).glob("*/.step-*"))
        again = start(project)
        ended = again.wait() == 0 and final_state(project) == state and not left_behind(project)
        same[part] += ended
        if not ended:
            print(f"kill {kill}, {part}: NOT the same result\n{printed(project)}", flush=True)
    print(f"\n{'killed while':<14}{'trainings':>10}{'same result':>13}")
    for part in PARTS:
        print(f"{part:<14}{tried[part]:>10}{same[part]:>13}")
    print(f"{'in all':<14}{kills:>10}{same.total():>13}")
    print(f"half-written checkpoints left by a kill: {torn}", flush=True)
    return same.total() == kills


def left_behind(project: Path) -> list[Path]:
    """Files and folders that are half-written."""
    return list(project.rglob(".*.tmp"))


def wait_for_part(
    process: subprocess.Popen[bytes], project: Path, part: str, chance: random.Random
) -> None:
    """Wait until a phase of the process begins."""
    if part == "training":
        wait_until(process, partial(has_printed, project, "step  0/"))
    elif part == "exporting":
        wait_until(process, partial(has_printed, project, f"step {MAX_STEPS}/"))
    elif part == "saving":
        after = chance.randrange(MAX_STEPS // INTERVAL) * INTERVAL
        wait_until(process, lambda: max(checkpoint_steps(project), default=0) >= after)
        wait_until(process, lambda: any(trainings(project).glob("*/.step-*")))


def killed_often(
    prepared: Path, state: dict[str, bytes], kills: int, chance: random.Random
) -> bool:
    """Kill one training repeatedly. Returns whether the result is the same."""
    project = fresh(prepared)
    steps = project / "steps.txt"
    print(f"\n{'kill':<6}{'resumed at':>12}{'killed at':>12}{'kept':>8}{'steps lost':>12}")
    lost = []
    for kill in range(kills):
        steps.unlink(missing_ok=True)
        process = start(project, counted=True)
        moment = chance.randint(1, 2 * INTERVAL - 1)
        wait_until(process, partial(has_done, steps, moment))
        process.kill()
        process.wait()
        done = [int(step) for step in steps.read_text().split()]
        kept = max(checkpoint_steps(project), default=0)
        lost.append(done[-1] + 1 - kept)
        print(f"{kill + 1:<6}{done[0]:>12}{done[-1] + 1:>12}{kept:>8}{lost[-1]:>12}", flush=True)
    ended = start(project).wait() == 0 and final_state(project) == state
    print(
        f"{'the same result' if ended else 'NOT the same result'}; a kill lost at most "
        f"{max(lost, default=0)} steps ({INTERVAL} between checkpoints, and those during a save)"
    )
    return ended


if __name__ == "__main__":
    main()
