"""Measure the speed and memory of tokenization.

python -m benchmarks.tokenize --text FILE [--encoding gpt2] [--megabytes 50] [--rounds 5]
python -m benchmarks.tokenize --text FILE --stages 100 1000 [--folder .]

The first command compares documents to shards on disk, including all checks and statistics, with
`encode_ordinary_batch` with two threads, whose result is discarded; and `Tokenizer.train` with
Hugging Face's tokenizers. The second runs the stages on corpora of some sizes in megabytes, with
the settings of params.yaml (near-duplicates are searched in all or none of them): time, processor
time, and peak memory (proportional set size) of a stage and all its processes. The documents are
the sentences of FILE in a new order. Published encodings are read from TIKTOKEN_CACHE_DIR.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

from benchmarks import corpus
from benchmarks.pairs import alternate
from tinyllm.settings import strict_yaml

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="text to make documents from")
    parser.add_argument(
        "--encoding", default="gpt2", help="published encoding, or bpe for --stages"
    )
    parser.add_argument("--megabytes", type=int, default=50, help="text per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stages", type=int, nargs="+", help="sizes of the stages' corpora in MB")
    parser.add_argument("--folder", type=Path, default=Path(), help="folder for the corpora")
    args = parser.parse_args()
    if args.stages:
        run_stages(args.text, args.encoding, args.stages, args.folder)
    else:
        compare(args.text, args.encoding, args.megabytes, args.rounds)


def compare(text: Path, encoding: str, megabytes: int, rounds: int) -> None:
    """Print the table of ratios."""
    given = (text, megabytes * 1_000_000, encoding)
    print(f"| {megabytes} MB | ours, MB/s | peer, MB/s | ratio | quartiles |")
    print("|---|---|---|---|---|")
    for name, ours, peer in (
        (f"documents to shards, {encoding}, against encode_ordinary_batch", "encode", "batch"),
        ("training a BPE, against tokenizers alone", "learn", "bare"),
    ):
        found = alternate(("tokens", ours, *given), ("tokens", peer, *given), rounds)
        print(
            f"| {name} | {found.ours:.1f} | {found.peer:.1f} | {found.ratio:.2f} "
            f"| {found.low:.2f} to {found.high:.2f} |",
            flush=True,
        )


def run_stages(text: Path, encoding: str, sizes: list[int], folder: Path) -> None:
    """Print the table of stages."""
    print("| corpus | stage | MB/s | processor, s/GB | peak memory, MB |")
    print("|---|---|---|---|---|")
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            root = Path(name)
            corpus.write(root / "corpus", text.read_text(encoding="utf-8"), size * 1_000_000)
            params = strict_yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
            params["download"] |= {
                "source": "path", "path": str(root / "corpus"), "separator": corpus.SEPARATOR,
            }  # fmt: skip
            params["tokenize"]["encoding"] = encoding
            if max(sizes) * 1_000_000 > params["split"]["near_duplicates"]:
                params["split"]["near_duplicates"] = 0  # in all or none: otherwise the work differs
            (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
            for stage, arguments in STAGES.items():
                seconds, cpu, peak = measure(root, stage, arguments)
                if stage == "download":
                    shutil.rmtree(root / "corpus")
                    continue
                print(
                    f"| {size:,} MB | {stage} | {size / seconds:.1f} | {cpu / size * 1e3:.0f} "
                    f"| {peak / 1e6:.0f} |",
                    flush=True,
                )


STAGES = {
    "download": ["--params", "params.yaml", "--raw", "raw"],
    "tokenize": [
        "--params", "params.yaml", "--raw", "raw", "--tokenizer", "tokenizer",
        "--tokens", "tokens", "--reports", "reports",
    ],
    "split": [
        "--tokens", "tokens", "--train", "train", "--validation", "validation", "--test", "test",
        "--summary", "splits.json",
    ],
}  # fmt: skip


def measure(root: Path, stage: str, arguments: list[str]) -> tuple[float, float, float]:
    """Run a stage. Returns seconds, processor seconds, and peak memory in bytes."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    watched = psutil.Process(process.pid)
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            break
        peak = max(peak, memory(watched))
        time.sleep(0.1)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"stage {stage} exited with status {process.returncode}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, peak


def memory(process: psutil.Process) -> int:
    """Memory of a process and its children; shared memory is counted once."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            info = one.memory_full_info()
        except psutil.Error:  # it has just exited
            continue
        total += getattr(info, "pss", info.uss)
    return total


if __name__ == "__main__":
    main()
