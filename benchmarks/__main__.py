"""Compare tinyllm with its alternatives on this machine.

python -m benchmarks [--nanogpt CHECKOUT] [--text FILE] [--model FOLDER [--gguf FILE]]
                     [--rounds 9] [--rows 1 3 ...]

Each row runs two programs in turn and prints the median of the rounds' ratios and their quartiles.
benchmarks/results.md keeps the last result of each row and processor. Rows against nanoGPT need a
checkout of
https://github.com/karpathy/nanoGPT, of which this project copies nothing. Rows 14 to 15b generate
text with a trained model: our rows need its folder, llama.cpp's rows its GGUF file
(`tinyllm export FILE`) and the package xllamacpp.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks import learning, results, shakespeare, tracking_overhead
from benchmarks.pairs import Comparison, alternate
from benchmarks.workers.shapes import DEFAULT, SMALL, WIDE
from tinyllm.common import console
from tinyllm.common.os_processes import available_cores

NAMES: dict[object, str] = {
    "nanogpt": "nanoGPT",
    "trainer": "Hugging Face Trainer",
    "llama_cpp": "llama.cpp",
    "transformers": "transformers",
    "product": "2048³ product",
    "start": "Python",
    "tinyllm": "tinyllm",
}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        number: the row's name in issues and docs/log.md.
        goal: the ratio to reach.
        ours, peer: worker and arguments; the peer "nanogpt" needs a checkout.
        unit: unit of both speeds.
        scale: factor that converts our speed to the peer's unit.
        memory: whether to compare memory instead of speed.
    """

    number: str
    measure: str
    goal: str
    ours: tuple[object, ...]
    peer: tuple[object, ...]
    unit: str = "tokens/s"
    scale: float = 1.0
    memory: bool = False

    def possible(self, args: argparse.Namespace) -> bool:
        """Whether the options name what the row's programs need."""
        program = self.peer[0]
        return bool(
            (args.nanogpt or program != "nanogpt")
            and (args.gguf or program != "llama_cpp")
            and (args.model or "--model" not in self.ours)
        )

    @property
    def described(self) -> tuple[str, str, str, str]:
        """The row's number, measure, peer and goal."""
        return self.number, self.measure, NAMES[str(self.peer[0])], self.goal

    def cell(self, found: Comparison) -> str:
        """The median of the ratios, their quartiles, and our value."""
        if self.memory:
            share = found.our_peak / found.peer_peak
            return f"**{share:.2f}**, {found.our_peak / 1e6:,.0f} MB"
        ratio, low, high = (self.scale * each for each in (found.ratio, found.low, found.high))
        ours = f"{self.scale * found.ours:,.4g} {self.unit}"
        return f"**{ratio:.2f}** ({low:.2f} to {high:.2f}), {ours}"


def one_token(texts: int) -> list[object]:
    """Arguments for the forward products of one token per text, repeated enough to be timed."""
    shape = replace(SMALL, context_length=1, batch_size=texts)
    return [*shape.arguments(), "--work", "score", "--steps", 500]


def rows_of_model(model: Path, gguf: Path) -> list[Row]:
    """The rows that generate text with a trained model, of the default vocabulary and context."""
    size = ["--prompt", 0, "--tokens", DEFAULT.context_length - 1, "--sequences"]
    ours = ("tinyllm", "--model", model, "--work", "generate", "--sequences")
    theirs = ("transformers", "--model", model, *size)
    llama_cpp = ("llama_cpp", "--gguf", gguf, *size)
    return [
        Row("14", "generating one text", "-", (*ours, 1), (*theirs, 1)),
        Row("14b", "generating 32 at once", "-", (*ours, 32), (*theirs, 32)),
        Row("15", "generating one text, the peer on one thread", "≥ 0.6",
            (*ours, 1), (*llama_cpp, 1)),
        Row("15b", "generating 32 at once, the peer on all threads", "-",
            (*ours, 32), (*llama_cpp, 32, "--threads", available_cores())),
    ]  # fmt: skip


def rows() -> list[Row]:
    """The rows of the table that need no trained model."""
    small = SMALL.arguments()
    wide = [*WIDE.arguments(), "--steps", 2]
    fp32, bf16 = ["--precision", "fp32"], ["--precision", "bf16"]
    muon = ["--optimizer", "muon"]
    products, products_wide = ("product", *small, *fp32), ("product", *wide, *fp32)
    score, write = ["--work", "score"], ["--work", "generate", "--sequences"]
    ours, nanogpt = ("tinyllm", *small), ("nanogpt", *small)
    adamw = ("tinyllm", *DEFAULT.arguments())
    default = (*adamw, *muon)
    nanochat = ["--architecture", "nanochat"]
    ours_wide, nanogpt_wide = ("tinyllm", *wide), ("nanogpt", *wide)
    return [
        Row("1", "training, 4 layers, width 128, 12x64", "-", ours, nanogpt),
        Row("1m", "the same, ours with Muon", "-", (*ours, *muon), nanogpt),
        Row("1a", "the default shape, qwen3 against nanochat", "≥ 0.91",
            adamw, (*adamw, *nanochat)),
        Row("1am", "the same with Muon", "≥ 0.91", default, (*default, *nanochat)),
        Row("1af", "row 1a in fp32", "≥ 0.91", (*adamw, *fp32), (*adamw, *fp32, *nanochat)),
        Row("1amf", "row 1am in fp32", "≥ 0.91", (*default, *fp32), (*default, *fp32, *nanochat)),
        Row("1c", "row 1, compiled and not", "-", (*ours, "--compile"), ours),
        Row("1d", "row 1am, compiled and not", "-", (*default, "--compile"), default),
        Row("1p", "the products of row 1 alone, in fp32", "-", products, nanogpt),
        Row("2", "row 1, ours in fp32", "≥ 1", (*ours, *fp32), nanogpt),
        Row("2c", "row 2, ours compiled", "≥ 1", (*ours, *fp32, "--compile"), nanogpt),
        Row("3", "training, 6 layers, width 384, 16x256", "-", ours_wide, nanogpt_wide),
        Row("3m", "the same, ours with Muon", "-", (*ours_wide, *muon), nanogpt_wide),
        Row("3a", "row 3, qwen3 against nanochat", "≥ 0.91", ours_wide, (*ours_wide, *nanochat)),
        Row("3c", "row 3, compiled and not", "-", (*ours_wide, "--compile"), ours_wide),
        Row("3d", "row 3b, compiled and not", "-", (*ours_wide, *fp32, "--compile"),
            (*ours_wide, *fp32)),
        Row("3p", "the products of row 3 alone, in fp32", "-", products_wide, nanogpt_wide),
        Row("3b", "row 3, ours in fp32", "≥ 1", (*ours_wide, *fp32), nanogpt_wide),
        Row("3e", "row 3b, ours compiled", "≥ 1", (*ours_wide, *fp32, "--compile"), nanogpt_wide),
        Row("4", "row 1, the peer in bf16", "≥ 2.5", ours, ("trainer", *small)),
        Row("5", "row 3, fraction of the product's FLOP/s in bf16", "≥ 0.78",
            (*ours_wide, *bf16), ("product",), "FLOP/s", WIDE.flops_a_token),
        Row("5b", "row 1, fraction of the product's FLOP/s in bf16", "≥ 0.45",
            (*ours, *bf16), ("product",), "FLOP/s", SMALL.flops_a_token),
        Row("5c", "row 3b, fraction of the product's FLOP/s in fp32", "≥ 0.78",
            (*ours_wide, *fp32), ("product", *fp32), "FLOP/s", WIDE.flops_a_token),
        Row("5d", "row 2, fraction of the product's FLOP/s in fp32", "≥ 0.55",
            (*ours, *fp32), ("product", *fp32), "FLOP/s", SMALL.flops_a_token),
        Row("5e", "row 5, compiled", "≥ 0.78",
            (*ours_wide, *bf16, "--compile"), ("product",), "FLOP/s", WIDE.flops_a_token),
        Row("5f", "row 5b, compiled", "≥ 0.45",
            (*ours, *bf16, "--compile"), ("product",), "FLOP/s", SMALL.flops_a_token),
        Row("5g", "row 5c, compiled", "≥ 0.78",
            (*ours_wide, *fp32, "--compile"), ("product", *fp32), "FLOP/s", WIDE.flops_a_token),
        Row("5h", "row 5d, compiled", "≥ 0.55",
            (*ours, *fp32, "--compile"), ("product", *fp32), "FLOP/s", SMALL.flops_a_token),
        Row("9", "scoring", "≥ 2", (*ours, *score), (*nanogpt, *score)),
        Row("9p", "the products of row 9 alone, in fp32", "-", (*products, *score),
            (*nanogpt, *score)),
        Row("10", "generating one text", "≥ 6", (*ours, *write, 1), (*nanogpt, *write, 1)),
        Row("10b", "generating 32 at once, the peer one", "≥ 60", (*ours, *write, 32),
            (*nanogpt, *write, 1)),
        Row("10p", "the products of one token alone, in fp32", "-",
            ("product", *one_token(1), *fp32), (*nanogpt, *write, 1)),
        Row("10q", "the products of one token of 32 texts, the peer one", "-",
            ("product", *one_token(32), *fp32), (*nanogpt, *write, 1)),
        Row("11", "two processes of one thread each against one of two, width 384", "≥ 0.9",
            (*ours_wide, "--processes", 2, "--threads", 1), (*ours_wide, "--threads", 2)),
        Row("11b", "the same at width 128", "≥ 0.9",
            (*ours, "--processes", 2, "--threads", 1), (*ours, "--threads", 2)),
        Row("12", "`stages.train --help` against `import torch`", "≥ 4",
            ("start", "--", "-m", "stages.train", "--help"),
            ("start", "--", "-c", "import torch"), "starts/s"),
        Row("12b", "start of training, to its first step, against `import torch`", "≥ 0.5",
            ("first_step",), ("start", "--", "-c", "import torch"), "starts/s"),
        Row("13", "peak memory at row 3", "≤ 0.8", ours_wide, nanogpt_wide, memory=True),
    ]  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT")
    options.add_argument("--text", type=Path, help="tinyshakespeare, for rows 6 and 7")
    options.add_argument("--model", type=Path, help="a model folder of the default shape")
    options.add_argument("--gguf", type=Path, help="the same model as a GGUF file")
    options.add_argument("--rounds", type=int, default=9, help="rounds per row")
    options.add_argument("--rows", nargs="+", help="numbers of rows to run; default: all")
    args = options.parse_args()

    def wanted(*numbers: str) -> bool:
        return not args.rows or any(number in args.rows for number in numbers)

    held = results.load()
    here = results.record(held, results.processor(), f"torch {version('torch')}")
    known = [*rows(), *rows_of_model(args.model or Path(), args.gguf or Path())]
    print(results.processor(), here["software"], sep="; ", flush=True)
    for row in known:
        if wanted(row.number) and row.possible(args):
            cell = row.cell(measure(row, args.nanogpt, args.rounds))
            print(f"| {' | '.join((*row.described, cell))} |", flush=True)
            results.add_row(here, row.number, cell)
            results.save(held, [each.described for each in known])
    for title, lines in tables(args, wanted):
        print(f"\n## {title}\n\n{lines}", flush=True)
        results.add_table(here, title, lines)
        results.save(held, [each.described for each in known])


def tables(args: argparse.Namespace, wanted: Callable[..., bool]) -> Iterator[tuple[str, str]]:
    """Title and lines of each result that is a table of its own."""
    if wanted("8"):
        with tracking_overhead.scratch_project():
            figures = tracking_overhead.beside_the_loop(200)
        lines = [f"| {name} | {value} |" for name, value in figures.items()]
        title = "8: steps of 15 ms with MLflow and without (goal: ≤ 1.01)"
        yield title, "\n".join(["| | |", "|---|---|", *lines])
    if args.nanogpt and args.text and wanted("6", "7"):
        measured = shakespeare.measure(args.nanogpt, args.text, min(5, args.rounds))
        yield (
            "6 and 7: tinyshakespeare from scratch (goals: ≥ 25 times, ≤ 2.05)",
            shakespeare.table(measured),
        )
    if args.nanogpt and args.text and wanted("curves"):
        curves = learning.measure(args.nanogpt, args.text)
        learning.draw(results.PICTURE, curves, results.processor())
        yield "Bits per byte over seconds of training", learning.table(curves)


def measure(row: Row, nanogpt: Path | None, rounds: int) -> Comparison:
    """Measure one row of the table."""
    peer = (*row.peer, "--checkout", nanogpt) if row.peer[0] == "nanogpt" else row.peer
    return alternate(row.ours, peer, rounds)


if __name__ == "__main__":
    console.run(main)
