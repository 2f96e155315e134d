"""Check and time this project on a GPU, in one command of at most ten minutes.

python -m benchmarks.gpu [--nanogpt CHECKOUT] [--seconds 570]

Needs CUDA, and of this project's packages torch, numpy, pydantic, PyYAML, psutil, safetensors and
tiktoken; no network, no DVC and no MLflow. Prints one table. Each line is a process of its own: one
that fails says why, and the others run all the same. `--device cpu --small` tries the program
without a GPU. The exit status is 1 if a check fails.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.checks import all_checks
from benchmarks.gpu.speeds import SPEED, WORK, all_speeds
from tinyllm.common import console
from tinyllm.compute import find_device

TRAINING = "training, AdamW"
PATIENCE = 200.0  # seconds for a line, of which compiling may take most
LONGEST = 300  # characters of a reason


@dataclass
class Line:
    """One line of the table: a check that holds or not, or figures.

    Attributes:
        reason: why it failed or did not run; empty if it did.
    """

    name: str
    is_check: bool
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT, to compare with")
    parser.add_argument("--small", action="store_true", help="a tiny model: tries the program")
    parser.add_argument("--seconds", type=float, default=570, help="no line starts after these")
    parser.add_argument("--line", help=argparse.SUPPRESS)
    args = parser.parse_args()
    find_device(args.device)
    if args.line:
        print(json.dumps(run(args)), flush=True)
        return
    began, lines = time.monotonic(), []
    print(about(args.device), flush=True)
    for name, is_check in names(args):
        left = args.seconds - (time.monotonic() - began)
        line = Line(name, is_check, reason="" if left > 0 else "no time left")
        if left > 0:
            measure(line, args, min(left, PATIENCE))
        lines.append(line)
        print(f"  {line.seconds:5.0f} s  {line.name}: {line.reason or 'done'}", flush=True)
    print("\n".join(table(lines)))
    sys.exit(any(line.is_check and line.reason for line in lines))


def work(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checks and the timed functions, by name."""
    return (
        all_checks(args.device, compiled=args.device == "cuda"),
        all_speeds(args.device, args.small, args.nanogpt, PATIENCE),
    )


def names(args: argparse.Namespace) -> list[tuple[str, bool]]:
    """Every line's name, and whether it is a check."""
    checks, speeds = work(args)
    return [(name, True) for name in checks] + [(name, False) for name in speeds]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run one line in this process. Returns its figures, or the reason why it failed."""
    checks, speeds = work(args)
    try:
        figures = {**checks, **speeds}[args.line]()
    except Exception as error:  # of any kind: this process reports it, and the others run
        traceback.print_exc()
        said = " ".join(str(error).split()) or "no reason given"
        return {"reason": f"{type(error).__name__}: {said}"[:LONGEST]}
    return {"figures": figures or {}}


def measure(line: Line, args: argparse.Namespace, patience: float) -> None:
    """Run one line in a process of its own, and fill in what it found."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--line", line.name, "--device", args.device]
    command += ["--small"] * args.small
    command += ["--nanogpt", str(args.nanogpt.absolute())] if args.nanogpt else []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as kernels:
        world = {"TORCHINDUCTOR_CACHE_DIR": kernels, **os.environ}
        try:
            done = subprocess.run(
                command, env=world, stdout=subprocess.PIPE, text=True, check=False, timeout=patience
            )
            answer = json.loads(done.stdout.splitlines()[-1])
            line.figures, line.reason = answer.get("figures", {}), answer.get("reason", "")
        except subprocess.TimeoutExpired:
            line.reason = f"stopped after {patience:.0f} s"
        except (ValueError, IndexError):
            line.reason = f"ended with status {done.returncode} and said nothing"
    line.seconds = time.monotonic() - started


def about(device: str) -> str:
    """The card, torch and Python."""
    card = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    return f"{card}, torch {torch.__version__}, Python {platform.python_version()}"


def table(lines: list[Line]) -> list[str]:
    """The lines as a table, with shares of the product and ratios to nanoGPT."""
    by_name = {line.name: line.figures for line in lines}
    best = by_name.get("product", {}).get(WORK)
    peer = by_name.get("nanoGPT", {}).get(SPEED)
    rows = ["| what | result | seconds |", "|---|---|---:|"]
    for line in lines:
        shown = [f"{number(value)} {name}" for name, value in line.figures.items()]
        if line.name.startswith("training") and line.figures:
            if best:
                shown.append(f"{line.figures[WORK] / best:.2f} of the product (goal 0.45)")
            if peer:
                goal = " (goal 1.35)" if line.name == TRAINING else ""
                shown.append(f"{line.figures[SPEED] / peer:.2f} of nanoGPT{goal}")
        result = "; ".join(shown) or "holds"
        rows.append(f"| {line.name} | {line.reason or result} | {line.seconds:.0f} |")
    return rows


def number(value: float) -> str:
    """A figure with three digits, or with commas if it is large."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    console.run(main)
