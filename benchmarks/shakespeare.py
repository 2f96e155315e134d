"""Compare training time and score on a text with nanoGPT's recipe for a CPU.

python -m benchmarks.shakespeare --nanogpt CHECKOUT --text tinyshakespeare.txt [--rounds 3]

Runs in turn, each as a process timed from start to end: nanoGPT's train.py with its README's
command for a CPU, then tinyllm's "fast" and "long" recipes (benchmarks/workers/shakespeare.py).
Every model is scored on the last tenth of the text, in non-overlapping windows of its own context
length, in bits per byte. tinyllm's time includes training the tokenizer and scoring; nanoGPT's text
is prepared beforehand.
"""

import argparse
import importlib
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.workers.shakespeare import RECIPES

# https://github.com/karpathy/nanoGPT, README, "I only have a macbook"
README_COMMAND = [
    "train.py", "config/train_shakespeare_char.py", "--device=cpu", "--compile=False",
    "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12", "--n_layer=4",
    "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0",
]  # fmt: skip

PEER = "nanoGPT"
Measured = dict[str, list[tuple[float, float]]]  # (seconds, bits per byte) of each round, by name


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    options.add_argument("--text", type=Path, required=True)
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    print(table(measure(args.nanogpt, args.text, args.rounds)))


def measure(checkout: Path, text: Path, rounds: int) -> Measured:
    """Run all in turn; our seed is the number of the round."""
    results: Measured = {}
    with tempfile.TemporaryDirectory() as folder:
        peer = prepare(checkout, text, Path(folder) / "nanogpt")
        for number in range(rounds):
            for name in (PEER, *RECIPES):
                found = nanogpt(peer) if name == PEER else tinyllm(text, name, seed=number)
                results.setdefault(name, []).append(found)
                print(f"{name}: {found[0]:.1f} s, {found[1]:.3f} bits/byte", flush=True)
    return results


def table(results: Measured) -> str:
    """A table of medians, extreme scores, and the ratio of nanoGPT's time to ours."""
    lines = [
        "| | seconds | bits/byte | of all rounds | nanoGPT's time / ours |",
        "|---|---|---|---|---|",
    ]
    for name, measured in results.items():
        ratio = statistics.median(
            peer / ours for (peer, _), (ours, _) in zip(results[PEER], measured, strict=True)
        )
        seconds, scores = zip(*measured, strict=True)
        lines.append(
            f"| {name} | {statistics.median(seconds):.1f} | **{statistics.median(scores):.3f}** "
            f"| {min(scores):.3f} to {max(scores):.3f} | **{ratio:.2f}** |"
        )
    return "\n".join(lines)


def prepare(checkout: Path, text: Path, folder: Path) -> Path:
    """Copy the checkout, with the text encoded as characters."""
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".git", "out*"))
    data = folder / "data/shakespeare_char"
    shutil.copyfile(text, data / "input.txt")
    subprocess.run([sys.executable, data / "prepare.py"], check=True, stdout=subprocess.DEVNULL)
    return folder


def nanogpt(folder: Path) -> tuple[float, float]:
    """Run nanoGPT's recipe. Returns the seconds, and the bits per byte of its model."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *README_COMMAND], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started, nanogpt_score(folder)


def nanogpt_score(folder: Path) -> float:
    """Bits per byte of nanoGPT's model on the validation part, where a character is a byte."""
    import numpy as np
    import torch

    sys.path.insert(0, str(folder))
    peer = importlib.import_module("model")
    saved = torch.load(folder / "out-shakespeare-char/ckpt.pt", weights_only=True)
    model = peer.GPT(peer.GPTConfig(**saved["model_args"])).eval()
    model.load_state_dict(saved["model"])
    ids = np.fromfile(folder / "data/shakespeare_char/val.bin", dtype=np.uint16).astype(np.int64)
    length, nats = saved["model_args"]["block_size"], 0.0
    with torch.no_grad():
        for first in range(0, len(ids) - 1, length):
            piece = torch.from_numpy(ids[first : first + length + 1])[None]
            _, loss = model(piece[:, :-1], piece[:, 1:])
            nats += loss.item() * (piece.size(1) - 1)
    return nats / math.log(2) / (len(ids) - 1)


def tinyllm(text: Path, recipe: str, seed: int) -> tuple[float, float]:
    """Run a recipe of tinyllm. Returns the seconds of the process, and its score."""
    command = ["-m", "benchmarks.workers.shakespeare", "--text", text, "--recipe", recipe]
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, *map(str, command), "--seed", str(seed)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return time.perf_counter() - started, json.loads(ended.stdout)["bits_per_byte"]


if __name__ == "__main__":
    main()
