"""Compare `dvc repro` when nothing has changed with five stages of `true`.

python -m benchmarks.no_op [--rounds 25]

Run it in a project whose pipeline has run. The peer is another repository with five stages of
`cmd: 'true'` and the same DVC settings. Both take turns; the result is the median of their ratios.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = "stages:\n" + "".join(f"  s{number}:\n    cmd: 'true'\n" for number in range(5))
CONFIG = Path(".dvc", "config")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    if "up to date" not in run("dvc", "repro", folder=Path()):
        raise SystemExit("the pipeline was not up to date; it is now: run this again")
    with tempfile.TemporaryDirectory() as folder:
        peer = five_times_true(Path(folder))
        run("dvc", "repro", folder=peer)
        pairs = []
        for number in range(rounds):
            order = (Path(), peer) if number % 2 else (peer, Path())
            seconds = {where: timed(where) for where in order}
            pairs.append((seconds[Path()], seconds[peer]))
    ours, theirs = (statistics.median(each) for each in zip(*pairs, strict=True))
    low, middle, high = statistics.quantiles((a / b for a, b in pairs), n=4)
    print(f"here {ours:.3f} s, five times `true` {theirs:.3f} s")
    print(f"ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}), {rounds} rounds")


def five_times_true(folder: Path) -> Path:
    """Make a repository with five stages only."""
    run("git", "init", "--quiet", folder=folder)
    run("dvc", "init", "--quiet", folder=folder)
    (folder / CONFIG).write_bytes(CONFIG.read_bytes())
    (folder / "dvc.yaml").write_text(STAGES)
    return folder


def timed(folder: Path) -> float:
    started = time.perf_counter()
    run("dvc", "repro", folder=folder)
    return time.perf_counter() - started


def run(program: str, *arguments: str, folder: Path) -> str:
    """Run a program and return what it prints; DVC is that of this Python."""
    command = [sys.executable, "-m", "dvc"] if program == "dvc" else [program]
    return subprocess.run(
        [*command, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    main()
