"""What models of four sizes learn in so many minutes of training on this machine.

python -m benchmarks.sizes --corpus pandas==3.1.1 --folder . --minutes 1 3 10 [--jobs 2]

The folder has data/ and reports/ of the pipeline for that corpus: packages, or a value of
download.source. The steps that fit into the minutes are taken from the speed of a few real steps
with all cores, so that the trainings may run side by side, with one thread each (--jobs). Prints a
line for each training, and replaces it in tinyllm/experiments/sizes.json, which `tinyllm check`
reads. --page draws docs/sizes.png from all results and prints the table of docs/sizes.md.
"""

import argparse
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.results import processor
from benchmarks.trainings import load, settings, train_and_score
from benchmarks.workers.tinyllm import Silent
from tinyllm.compute import choose
from tinyllm.experiments.estimate import estimate
from tinyllm.experiments.sizes import RESULTS, Trained, read_sizes
from tinyllm.pictures.figure import BLUE, DARK, ORANGE, SOFT, picture

PICTURE = Path(__file__).parents[1] / "docs/sizes.png"
COLOURS = SOFT, BLUE, ORANGE, DARK
# By millions of parameters with the default vocabulary. Larger models need lower rates.
SIZES: dict[str, dict[str, Any]] = {
    "0.3": {"n_layer": 3, "n_head": 2, "d_model": 32, "learning_rate": 0.02},
    "1.8": {"n_layer": 4, "n_head": 4, "d_model": 128, "learning_rate": 0.012},
    "5": {"n_layer": 4, "n_head": 8, "d_model": 256, "learning_rate": 0.008},
    "20": {"n_layer": 5, "n_head": 8, "d_model": 512, "learning_rate": 0.006},
}
WARM_UP = 24  # one step in so many
# A small text is learned by heart in a long training: one that gets worse is ended.
EVALUATIONS, PATIENCE = 24, 4


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--corpus", help="its name, for the table")
    options.add_argument("--folder", type=Path, default=Path())
    options.add_argument("--minutes", nargs="+", type=float, default=[1, 3, 10])
    options.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    options.add_argument("--jobs", type=int, default=1, help="trainings at once, a thread each")
    options.add_argument("--page", action="store_true")
    options.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # a child's training
    args = options.parse_args()
    if args.one:
        print(json.dumps(learn(args.folder, args.one)))
        return
    if args.corpus:
        measure(args)
    if args.page:
        results = read_sizes()
        draw(results)
        print(table(results))


def measure(args: argparse.Namespace) -> None:
    """Train all sizes for all times; longest first, so that the jobs end together."""
    plans = [plan(args.folder, size, minutes) for size in args.sizes for minutes in args.minutes]
    plans.sort(key=lambda each: -each["minutes"])

    def train(each: dict[str, Any]) -> Trained:
        threads = {"threads": 1} if args.jobs > 1 else {}
        command = [
            sys.executable, "-m", "benchmarks.sizes", "--folder", str(args.folder),
            "--one", json.dumps(each | threads),
        ]  # fmt: skip
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = Trained(corpus=args.corpus, machine=processor(), **json.loads(ended.stdout))
        print(found, flush=True)
        return found

    with ThreadPoolExecutor(args.jobs) as pool:
        for found in pool.map(train, plans):
            replace(found)


def replace(found: Trained) -> None:
    """Put a result in the place of an older one."""
    kept = {one.key: one for one in read_sizes()} | {found.key: found}
    lines = [json.dumps(vars(kept[key])) for key in sorted(kept)]
    RESULTS.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def plan(folder: Path, size: str, minutes: float) -> dict[str, Any]:
    """The training of a size that takes so many minutes here with all cores."""
    params = settings(SIZES[size], seed=1)
    config = load(params, folder).model_config
    cost = estimate(config, params.train, choose(params.hardware))
    steps = max(50, int(60 * minutes / (cost.training / params.train.max_steps)))
    return {
        "size": size, "minutes": minutes, "parameters": cost.parameters,
        "changes": SIZES[size] | {
            "max_steps": steps, "warmup_steps": steps // WARM_UP, "save": "best",
            "eval_interval": math.ceil(steps / EVALUATIONS), "patience": PATIENCE,
        },
    }  # fmt: skip


def learn(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Train and score, in a child."""
    params = settings(wanted["changes"], seed=1, threads=wanted.get("threads"))
    scores = train_and_score(params, folder, Silent())
    tokens = params.train.max_steps * params.train.batch_size * params.train.context_length
    return {
        "size": wanted["size"], "parameters": wanted["parameters"], "minutes": wanted["minutes"],
        "tokens": tokens, "bits_per_byte": round(scores.bits_per_byte, 4),
    }  # fmt: skip


def draw(results: list[Trained]) -> None:
    """Draw a panel for each corpus: bits per byte over minutes, a line for each size."""
    corpora = sorted({one.corpus for one in results})

    def panels(*axes: Any) -> None:
        for corpus, panel in zip(corpora, axes, strict=True):
            for size, colour in zip(SIZES, COLOURS, strict=True):
                line = [one for one in results if (one.corpus, one.size) == (corpus, size)]
                if not line:
                    continue
                x, y = [one.minutes for one in line], [one.bits_per_byte for one in line]
                panel.plot(x, y, marker="o", color=colour, label=f"{size} million parameters")
            minutes = sorted({one.minutes for one in results})
            panel.set(xscale="log", xlabel="minutes of training")
            panel.set(ylabel="bits per byte of the test split")
            panel.set_xticks(minutes, [f"{each:g}" for each in minutes])
            panel.minorticks_off()
            panel.set_title(corpus, loc="left", fontsize=10)
            panel.legend()

    picture(PICTURE, (4.8 * len(corpora), 3.8), panels, ncols=len(corpora))


def table(results: list[Trained]) -> str:
    """A line for each corpus and time, a column for each size; the best in bold."""
    sizes = [size for size in SIZES if any(one.size == size for one in results)]
    lines = [f"| corpus | minutes | {' | '.join(f'{size} M' for size in sizes)} |"]
    lines.append("|---|---" + "|---:" * len(sizes) + "|")
    for corpus, minutes in sorted({(one.corpus, one.minutes) for one in results}):
        found = {
            one.size: one.bits_per_byte
            for one in results
            if (one.corpus, one.minutes) == (corpus, minutes)
        }
        best = min(found.values())
        cells = [
            "" if size not in found
            else f"**{found[size]:.3f}**" if found[size] == best else f"{found[size]:.3f}"
            for size in sizes
        ]  # fmt: skip
        lines.append(f"| {corpus} | {minutes:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
