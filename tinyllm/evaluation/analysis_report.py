"""The report of an analysis: numbers, tables, pictures and a page, the same bytes every time."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tinyllm.common.files import write_json, write_text
from tinyllm.evaluation.analysis import Analysis
from tinyllm.evaluation.breakdown import Row
from tinyllm.evaluation.memorisation import SHORTEST, Match
from tinyllm.pictures.evaluation import between, context_use, frequency, percent, reliability

NUMBERS, PAGE = "analysis.json", "analysis.md"
CONTEXT, DOCUMENT, CALIBRATION = "loss_by_context", "loss_by_document", "calibration"
FREQUENCY = "loss_by_frequency"
LONGEST_QUOTE = 600  # characters


def write(folder: Path, analysis: Analysis) -> None:
    """Write the files of the report into a folder that exists."""
    write_json(folder / NUMBERS, analysis.as_dict())
    tables = {
        CONTEXT: analysis.positions,
        DOCUMENT: analysis.document,
        FREQUENCY: analysis.frequency,
        CALIBRATION: analysis.calibration.bins,
    }
    for name, rows in tables.items():
        write_text(folder / f"{name}.csv", as_csv(rows))
    context_use(folder / f"{CONTEXT}.png", analysis.positions, analysis.context, analysis.document)
    frequency(folder / f"{FREQUENCY}.png", analysis.frequency)
    reliability(
        folder / f"{CALIBRATION}.png", analysis.calibration.bins, analysis.calibration.error
    )
    write_text(folder / PAGE, page(analysis))


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV, in full precision, under their names."""
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def headline(analysis: Analysis) -> str:
    """The line to print in the terminal."""
    generated, real = analysis.generated, analysis.real
    return (
        f"calibration error {analysis.calibration.error:.1%}; verbatim in the training text: "
        f"{generated.verbatim:.1%} of the generated text, {real.verbatim:.1%} of the test text"
    )


def page(analysis: Analysis) -> str:
    """The whole report as Markdown."""
    found = analysis.calibration
    parts = [
        "# Analysis of the model",
        "[docs/evaluation.md](../../docs/evaluation.md) says how each number is computed.",
        "## Loss by the number of tokens that the model sees",
        f"![Loss over the tokens that the model sees and over the position in the document]"
        f"({CONTEXT}.png)",
        _table(
            ("tokens that the model sees", "loss"),
            (
                [between(row["first"], row["last"]), f"{row['loss']:.3f}"]
                for row in analysis.context
            ),
        ),
        "## Loss by token frequency",
        f"![Share of tokens and of loss by the token's count in training]({FREQUENCY}.png)",
        _table(
            ("times in the training split", "ids", "test tokens", "of all", "loss", "of all loss"),
            (
                [
                    between(row["least"], row["most"]),
                    f"{row['ids']:,}",
                    f"{row['tokens']:,}",
                    percent(row["share_of_tokens"]),
                    f"{row['loss']:.3f}",
                    percent(row["share_of_loss"]),
                ]
                for row in analysis.frequency
            ),
        ),
        "## Calibration",
        f"![Accuracy over confidence]({CALIBRATION}.png)",
        f"The most likely token has a probability of {found.confidence:.1%} on average, and it is "
        f"right for {found.accuracy:.1%} of the tokens. The expected calibration error is "
        f"{found.error:.2%}.",
        "## Generated text beside real text",
        _comparison(analysis),
        "The longest run that also occurs in the training split:",
        *(
            quote(name, group.longest)
            for name, group in (
                ("Generated documents", analysis.generated),
                ("Test documents", analysis.real),
                ("Continued prompts", analysis.prompted),
            )
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _comparison(analysis: Analysis) -> str:
    groups = (analysis.generated, analysis.real, analysis.prompted)
    rows = [
        ["texts", *(f"{group.texts:,}" for group in groups)],
        ["tokens", *(f"{group.tokens:,}" for group in groups)],
        ["end by themselves", *(f"{group.ended:.0%}" for group in groups)],
        *(
            [f"distinct {n}-grams", *(f"{group.distinct[n - 1]:.1%}" for group in groups)]
            for n in range(1, len(groups[0].distinct) + 1)
        ),
        ["repeated 4-grams", *(f"{group.repeated:.1%}" for group in groups)],
        ["verbatim in the training split", *(f"{group.verbatim:.1%}" for group in groups)],
        ["longest such run, characters", *(f"{len(group.longest.text):,}" for group in groups)],
    ]
    return _table(("", "generated documents", "test documents", "continued prompts"), rows)


def quote(name: str, match: Match) -> str:
    """The longest run that some texts share with the training split, as Markdown."""
    if not match.text:
        return f"{name}: none of {SHORTEST} characters."
    text = match.text[:LONGEST_QUOTE] + ("…" if len(match.text) > LONGEST_QUOTE else "")
    fence = "~" * max(4, 1 + max(map(len, re.findall("~+", text)), default=0))
    return (
        f"{name}: {len(match.text):,} characters, in document {match.document:,} of the training "
        f"split (counted from 0), which begins with `{match.title.replace('`', chr(39))}`:\n\n"
        f"{fence}text\n{text}\n{fence}"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
