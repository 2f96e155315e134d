"""Compare tokenizing kinds of text without spaces with plain Chinese in lines.

python -m benchmarks.unspaced_text [--megabytes 150] [--rounds 3] [--kinds indented ...]

Each corpus is one document made of the same few thousand sentences, so that training the tokenizer
is the same work for all. All take turns; a ratio is the median of the rounds' ratios.
"""

import argparse
import base64
import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.tokenize import ROOT, STAGES, measure
from tinyllm.settings import strict_yaml

GOAL = 1.2
PLAIN = "plain"
STOP = "\u3002"
Line = Callable[[str], str]

# How each kind formats a sentence; the names are those in the table.
KINDS: dict[str, Line] = {
    PLAIN: lambda text: f"{text}{STOP}\n",
    "indented": lambda text: f"\u3000\u3000{text}{STOP}\n",
    "indented, no stops": lambda text: f"\u3000{text}\n",
    "no line ends": lambda text: f"{text}{STOP}",
    "blank lines": lambda text: f"{text}{STOP}\n\n",
    "no-break spaces": lambda text: f"\xa0\xa0{text}\xa0{STOP}\xa0\n",
    "tabs": lambda text: f"\t\t\t\n\t\t{text}\n",
    "base64": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "minified JSON": lambda text: json.dumps({"t": text}, ensure_ascii=False) + ",",
}
LETTERS = {PLAIN: (0x4E00, 600), "Japanese": (0x3042, 80), "Thai": (0x0E01, 46)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*KINDS, *(name for name in LETTERS if name != PLAIN)]
    parser.add_argument("--megabytes", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=names, choices=names)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    args = parser.parse_args()
    print(f"{args.megabytes} MB, {args.rounds} rounds; ratios to {PLAIN}\n")
    print(
        "| text | tokenize, s | processor, s | peak memory, MB | ratio of seconds | goal "
        "| of processor |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for name in args.kinds:
            if name != PLAIN:
                print(compare(name, args.megabytes, args.rounds, Path(folder)), flush=True)


def compare(name: str, megabytes: int, rounds: int, folder: Path) -> str:
    """Tokenize a kind of text and plain text in turn. Returns a row of the table."""
    found: dict[str, list[tuple[float, float, float]]] = {PLAIN: [], name: []}
    for number in range(rounds):
        for kind in found if number % 2 else reversed(found):
            found[kind].append(run(kind, megabytes, folder))
    seconds, cpu, peak = (statistics.median(each) for each in zip(*found[name], strict=True))
    ratio, cpu_ratio = (
        statistics.median(
            mine[which] / plain[which]
            for mine, plain in zip(found[name], found[PLAIN], strict=True)
        )
        for which in (0, 1)
    )
    goal = f"≤ {GOAL}" if name == "indented" else ""
    return (
        f"| {name} | {seconds:.1f} | {cpu:.1f} | {peak / 1e6:.0f} | {ratio:.2f} | {goal} "
        f"| {cpu_ratio:.2f} |"
    )


def run(kind: str, megabytes: int, folder: Path) -> tuple[float, float, float]:
    """Tokenize. Returns seconds, processor seconds, and peak memory in bytes."""
    work = folder / "work"
    work.mkdir()
    write(work / "corpus.txt", kind, megabytes * 1_000_000)
    params = strict_yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["download"] |= {"source": "path", "path": "corpus.txt", "format": "text"}
    (work / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    measure(work, "download", STAGES["download"])
    found = measure(work, "tokenize", STAGES["tokenize"])
    shutil.rmtree(work)
    return found


def write(path: Path, kind: str, size: int) -> None:
    """Write a file of about `size` bytes."""
    chance = random.Random(1)
    first, count = LETTERS.get(kind, LETTERS[PLAIN])
    letters = [chr(first + i) for i in range(count)]
    words = ["".join(chance.choices(letters, k=chance.randint(1, 4))) for _ in range(3000)]
    line = KINDS.get(kind, KINDS[PLAIN])
    sentences = [
        line(
            "\u3001".join("".join(chance.choices(words, k=4)) for _ in range(chance.randint(1, 6)))
        )
        for _ in range(4000)
    ]
    with path.open("w", encoding="utf-8") as file:
        while size > 0:
            text = "".join(chance.choices(sentences, k=1000))
            size -= len(text.encode())
            file.write(text)


if __name__ == "__main__":
    main()
