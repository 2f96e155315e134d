"""How soon tinyshakespeare is learned: bits per byte over seconds, for us and two peers.

python -m benchmarks.learning --nanogpt CHECKOUT --text tinyshakespeare.txt [--picture FILE]

nanoGPT with its README's command for a CPU, Hugging Face's Trainer with the same shape, batch and
learning rate, and tinyllm's recipes of `benchmarks.shakespeare`, one after the other. Seconds count
from the start of the process, without evaluations. nanoGPT's scores are its own estimates, from 20
batches; the others are of the whole last tenth of the text.
"""

import argparse
import itertools
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.results import processor
from benchmarks.shakespeare import README_COMMAND, prepare
from tinyllm.pictures.figure import BLUE, DARK, ORANGE, picture

Curve = list[tuple[float, float]]  # (seconds, bits per byte)
NANOGPT, TRAINER = "nanoGPT", "Hugging Face Trainer, bf16"
FAST, LONG = "tinyllm, fast recipe", "tinyllm, long recipe"
RECIPES = {FAST: ("fast", 6), LONG: ("long", 25)}  # and steps between evaluations
STYLES: dict[str, dict[str, Any]] = {
    FAST: {"color": BLUE, "linestyle": (0, (1, 0.6)), "linewidth": 3},
    LONG: {"color": BLUE},
    TRAINER: {"color": ORANGE},
    NANOGPT: {"color": DARK},
}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    options.add_argument("--text", type=Path, required=True)
    options.add_argument("--picture", type=Path, help="where to draw the curves")
    args = options.parse_args()
    curves = measure(args.nanogpt, args.text)
    print(table(curves))
    if args.picture:
        draw(args.picture, curves, processor())


def measure(checkout: Path, text: Path) -> dict[str, Curve]:
    """The curve of each program."""
    curves = {
        name: evaluations(
            "benchmarks.workers.shakespeare", "--text", text, "--recipe", recipe, "--seed", 0,
            "--curve", every,
        )
        for name, (recipe, every) in RECIPES.items()
    }  # fmt: skip
    curves[TRAINER] = evaluations("benchmarks.workers.trainer_learns", "--text", text)
    with tempfile.TemporaryDirectory() as folder:
        curves[NANOGPT] = nanogpt(prepare(checkout, text, Path(folder) / "nanogpt"))
    return curves


def nanogpt(folder: Path) -> Curve:
    """The validation losses that nanoGPT's training prints."""
    command = [sys.executable, "-u", *README_COMMAND, "--eval_interval=100"]
    curve, evaluating, started = [], 0.0, time.perf_counter()
    before = started
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            now = time.perf_counter()
            if found := re.match(r"step \d+: train loss \S+, val loss ([\d.]+)", line):
                evaluating += now - before
                curve.append((now - started - evaluating, float(found[1]) / math.log(2)))
            before = now
    if process.returncode:
        raise ChildProcessError(f"nanoGPT exited with status {process.returncode}")
    return curve


def evaluations(module: str, *arguments: object) -> Curve:
    """The evaluations that a worker prints."""
    command = [sys.executable, "-m", module, *map(str, arguments), "--started", str(time.time())]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[")]
    return [(seconds, score) for seconds, score in lines]


def seconds_to(curve: Curve, score: float) -> float | None:
    """Seconds until a score is reached, in a straight line between evaluations.

    None if it is not reached, or if it is at the first evaluation already.
    """
    if curve[0][1] <= score:
        return None
    for (before, high), (after, low) in itertools.pairwise(curve):
        if low <= score:
            return before + (after - before) * (high - score) / (high - low)
    return None


def table(curves: dict[str, Curve]) -> str:
    """What each reaches, and how soon it reaches nanoGPT's last score."""
    goal = curves[NANOGPT][-1][1]
    lines = [
        f"| | last bits per byte | after seconds | seconds to {goal:.2f} | nanoGPT's / these |",
        "|---|---|---|---|---|",
    ]
    for name, curve in curves.items():
        seconds, score = curve[-1]
        reached = seconds_to(curve, goal)
        ratio = f"{curves[NANOGPT][-1][0] / reached:.1f}" if reached else "-"
        shown = f"{reached:.1f}" if reached else "not reached"
        lines.append(f"| {name} | {score:.3f} | {seconds:.1f} | {shown} | {ratio} |")
    return "\n".join(lines)


def draw(path: Path, curves: dict[str, Curve], machine: str) -> None:
    """Draw the curves, and how soon each reaches nanoGPT's last score."""
    goal = curves[NANOGPT][-1][1]

    def panels(curve_axes: Any, bar_axes: Any) -> None:
        for name, curve in curves.items():
            x, y = zip(*curve, strict=True)
            curve_axes.plot(x, y, label=name, **{"linewidth": 1.8} | STYLES[name])
        curve_axes.axhline(goal, color=DARK, linewidth=0.8, linestyle=":")
        curve_axes.set(xlabel="seconds, from the start of the process", xlim=(0, None))
        curve_axes.set(ylabel="bits per byte of held-out text", ylim=(1.9, 4.0))
        curve_axes.legend(loc="upper right")
        curve_axes.set_title("Learning tinyshakespeare from scratch", loc="left", fontsize=10)
        reached = {name: seconds_to(curve, goal) for name, curve in curves.items()}
        shown = {name: seconds for name, seconds in reached.items() if seconds}
        names = list(shown)[::-1]
        colours = [STYLES[name]["color"] for name in names]
        bars = bar_axes.barh(names, [shown[name] for name in names], color=colours)
        bar_axes.bar_label(bars, fmt="%.1f s", padding=3)
        bar_axes.set(xlabel="seconds", xlim=(0, max(shown.values()) * 1.2))
        bar_axes.grid(axis="y", visible=False)
        bar_axes.set_title(f"Seconds to nanoGPT's score, {goal:.2f}", loc="left", fontsize=10)

    print(f"drawing {path.name}: {machine}")
    picture(path, (9.6, 3.8), panels, ncols=2, width_ratios=[3, 2])


if __name__ == "__main__":
    main()
