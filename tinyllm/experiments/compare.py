"""`tinyllm compare`: a table of runs, with only the settings in which they differ."""

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tinyllm.experiments.runs import Run

if TYPE_CHECKING:
    from rich.table import Table

# Settings that change no result, and those that only choose what is shown.
NO_RESULT = ("runtime.", "evaluate.prompts", "evaluate.sample_tokens")
LONGEST = 32  # characters of a setting's value in the table
SCORES = ("test bits/byte", "delta", "time", "val", "tokens/s")  # most important first
WIDE = 10_000  # characters: no limit


@dataclass(frozen=True)
class Compared:
    """Runs, best first, and the settings in which they differ.

    Attributes:
        runs: those with a test score by that score, then those with a validation score, then the
            rest.
        differing: names of settings with more than one value, in the order of params.yaml.
    """

    runs: list[Run]
    differing: list[str]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Compared":
        """Compare runs."""
        return cls(sorted(runs, key=_rank), differing_settings(runs))

    def delta(self, run: Run) -> float | None:
        """How much worse a run's test score is than the best one, in bits per byte."""
        best = self.runs[0].test if self.runs else None
        return None if best is None or run.test is None else run.test - best

    def values(self, run: Run) -> dict[str, str]:
        """A run's values of the differing settings; empty text for one it does not have."""
        return {name: run.settings.get(name, "") for name in self.differing}


def _rank(run: Run) -> tuple[int, float, float]:
    if run.test is not None:
        return 0, run.test, -run.time
    if run.validation is not None:
        return 1, run.validation, -run.time
    return 2, 0.0, -run.time


def differing_settings(runs: Sequence[Run]) -> list[str]:
    """The settings that decide a result and have more than one value, in order of appearance.

    A run whose settings are unknown is skipped. A setting that a run lacks (of another version of
    the code) counts as a value.
    """
    known = [run.settings for run in runs if run.settings]
    names = dict.fromkeys(name for settings in known for name in settings)
    return [
        name
        for name in names
        if not name.startswith(NO_RESULT) and len({settings.get(name) for settings in known}) > 1
    ]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Shorten each setting's name to its last part, unless another setting has the same."""
    last = [name.rpartition(".")[2] for name in names]
    return {
        name: end if last.count(end) == 1 else name for name, end in zip(names, last, strict=True)
    }


# ----- output


def as_records(compared: Compared) -> list[dict[str, object]]:
    """A flat record for each run, for CSV and JSON."""
    return [
        {
            "name": run.name,
            "test_bits_per_byte": run.test,
            "delta": compared.delta(run),
            "validation_bits_per_byte": run.validation,
            "seconds": run.seconds,
            "tokens_per_second": run.tokens_per_second,
            "time": datetime.fromtimestamp(run.time).astimezone().isoformat(timespec="seconds"),
            "status": run.status,
            "mlflow_run": run.run_id,
            "dvc_experiment": run.experiment,
            "revision": run.revision or run.base,
            **compared.values(run),
        }
        for run in compared.runs
    ]


def print_csv(compared: Compared) -> None:
    """Print a table as CSV, with a header."""
    records = as_records(compared)
    output = io.StringIO()
    writer = csv.DictWriter(output, list(records[0]) if records else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    print(output.getvalue(), end="")


def print_json(compared: Compared) -> None:
    """Print a list of objects as JSON."""
    print(json.dumps(as_records(compared), indent=2, ensure_ascii=False))


def print_table(compared: Compared) -> None:
    """Print a table that fits the terminal.

    Each differing setting is a column. If that is too wide, one column lists those settings whose
    value is not that of most runs. If that is too wide as well, they stand below each run, and
    only the most important scores beside it. In a pipe, no line is wrapped.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    for layout in ("columns", "folded", "below"):
        table = _table(compared, layout)
        if Measurement.get(console, console.options.update(width=WIDE), table).maximum <= (
            console.width
        ):
            break
    if not compared.runs:
        console.print("No runs yet: `dvc repro` makes one.")
        return
    console.print(table)
    shown, usual = short_names(compared.differing), _usual(compared)
    if layout != "columns" and usual:
        others = ", ".join(f"{shown[name]}={_cut(value)}" for name, value in usual.items())
        console.print(f"Where no other value is shown: {others}.", style="dim")
    for line in notes(compared.runs):
        console.print(line, style="dim")


def _table(compared: Compared, layout: str) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("run" if layout != "below" else "run and settings", overflow="fold")
    shown = short_names(compared.differing)
    if layout == "columns":
        for name in compared.differing:
            table.add_column(shown[name], justify="right", no_wrap=True)
    elif layout == "folded":
        table.add_column("settings", no_wrap=True)
    scores = [SCORES.index(name) for name in (SCORES if layout != "below" else SCORES[:3])]
    for heading in (SCORES[index] for index in scores):
        table.add_column(heading, justify="right", no_wrap=True)
    usual = _usual(compared)
    for run in compared.runs:
        values = compared.values(run)
        folded = ", ".join(
            f"{shown[name]}={_cut(value)}"
            for name, value in values.items()
            if value != usual.get(name)
        )
        settings = {
            "columns": [run.name, *map(_cut, values.values())],
            "folded": [run.name, folded],
            "below": [f"{run.name}\n{folded}".rstrip()],
        }[layout]
        best = run is compared.runs[0] and run.test is not None
        row = [
            run.short_id,
            *settings,
            *(_scores(run, compared.delta(run))[index] for index in scores),
        ]
        table.add_row(*map(Text, row), style="bold green" if best else None)
    return table


def _usual(compared: Compared) -> dict[str, str]:
    """The value of each differing setting that more than half of the runs have, if there is one."""
    found = {}
    for name in compared.differing:
        values = [compared.values(run)[name] for run in compared.runs]
        value = max(values, key=values.count)
        if 2 * values.count(value) > len(values):
            found[name] = value
    return found


def _scores(run: Run, delta: float | None) -> list[str]:
    status = "" if run.status == "FINISHED" else run.status.lower()
    return [
        status if run.test is None else f"{run.test:.4f}",
        "" if not delta else f"+{delta:.4f}",
        "" if run.seconds is None else _duration(run.seconds),
        "" if run.validation is None else f"{run.validation:.4f}",
        "" if run.tokens_per_second is None else f"{run.tokens_per_second:,.0f}",
    ]


def _duration(seconds: float) -> str:
    """A duration as people read it: 48 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _cut(value: str) -> str:
    line = value.replace("\n", "\\n")
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def notes(runs: Sequence[Run]) -> list[str]:
    """What a reader should know about the runs in the table."""
    lines = []
    splits = {run.test_sha256 for run in runs if run.test is not None and run.test_sha256}
    if len(splits) > 1:
        lines.append(
            f"The runs have {len(splits)} different test splits: compare only runs with the same."
        )
    untracked = sum(run.run_id is None for run in runs)
    if untracked:
        lines.append(f"{untracked} of {len(runs)} are DVC experiments without a run in MLflow.")
    return lines


FORMS: dict[str | None, Callable[[Compared], None]] = {
    None: print_table,
    "csv": print_csv,
    "json": print_json,
}
