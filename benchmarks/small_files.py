"""Compare many small files with the same text as one JSON Lines file: download and tokenize.

python -m benchmarks.small_files [--files 50000] [--size 2000] [--rounds 3] [--folder FOLDER]

The same text is in a folder of files, in a zip and a tar archive of them, and in one file. All take
turns; a ratio is the median of the rounds' ratios. The last table is the time that DVC takes to
hash the folder before the stage starts, the first time and again.
"""

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import yaml

from benchmarks.tokenize import ROOT, STAGES, measure
from tinyllm.settings import strict_yaml

GOAL = 1.5
ONE = "one.jsonl"
FOLDER, ZIP, TAR = "folder", "archive.zip", "archive.tar.gz"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=2000, help="bytes per file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        root = Path(name)
        write(root, args.files, args.size)
        print(f"{args.files:,} files of {args.size:,} bytes, {args.rounds} rounds, seconds\n")
        compare(root, args.rounds)
        print()
        hash_by_dvc(root)


def write(root: Path, count: int, size: int) -> None:
    """Write the corpora: words of this project's documentation in random order."""
    text = "".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.md"))
    words = sorted(set(re.findall(r"[A-Za-z]+[,.]?", text)))
    chance = random.Random(1)
    with (
        (root / ONE).open("w", encoding="utf-8") as one,
        zipfile.ZipFile(root / ZIP, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for number in range(count):
            text = " ".join(chance.choices(words, k=size // 4))[:size]
            one.write(json.dumps({"text": text}) + "\n")
            path = root / FOLDER / f"{number // 1000:03d}/{number:06d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            packed.write(path, path.relative_to(root / FOLDER).as_posix())
    with tarfile.open(root / TAR, "w:gz", compresslevel=6) as archive:
        archive.add(root / FOLDER, ".")


def compare(root: Path, rounds: int) -> None:
    """Print the table of ratios."""
    corpora = (ONE, FOLDER, ZIP, TAR)
    found: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in corpora}
    for number in range(rounds):
        for name in corpora if number % 2 else reversed(corpora):
            found[name].append(run(root, name))
    print(
        "| corpus | download | tokenize | both, against one file | goal "
        "| processor | against one file |\n|---|---|---|---|---|---|---|"
    )
    for name in corpora:
        download, tokenize = (
            statistics.median(times[stage][0] for times in found[name])
            for stage in ("download", "tokenize")
        )
        cpu = statistics.median(total(times, 1) for times in found[name])
        ratio, cpu_ratio = (
            statistics.median(
                total(mine, which) / total(one, which)
                for mine, one in zip(found[name], found[ONE], strict=True)
            )
            for which in (0, 1)
        )
        goal = "" if name == ONE else f"≤ {GOAL}"
        print(
            f"| {name} | {download:.1f} | {tokenize:.1f} | {ratio:.2f} | {goal} "
            f"| {cpu:.1f} | {cpu_ratio:.2f} |",
            flush=True,
        )


def total(times: dict[str, tuple[float, float]], which: int) -> float:
    """The seconds of both stages together (0), or their processor seconds (1)."""
    return sum(each[which] for each in times.values())


def run(root: Path, name: str) -> dict[str, tuple[float, float]]:
    """Run both stages. Returns the seconds and the processor seconds of each."""
    work = root / "work"
    work.mkdir()
    params = strict_yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["download"] |= {"source": "path", "path": str(root / name)}
    (work / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    stages = ("download", "tokenize")
    times = {stage: measure(work, stage, STAGES[stage])[:2] for stage in stages}
    shutil.rmtree(work)
    return times


def hash_by_dvc(root: Path) -> None:
    """Print the time that DVC takes to hash each corpus as a dependency."""
    print("| DVC hashes | first | again |")
    print("|---|---|---|")
    for name in (ONE, FOLDER):
        work = root / f"dvc-{name}"
        work.mkdir()
        subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=work, check=True)
        stage = {"cmd": "true", "deps": [str(root / name)]}
        (work / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"none": stage}}))
        times = []
        for _ in range(2):
            started = time.perf_counter()
            subprocess.run(["dvc", "repro", "-q"], cwd=work, check=True, stdout=sys.stderr)
            times.append(time.perf_counter() - started)
        print(f"| {name} | {times[0]:.1f} | {times[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
