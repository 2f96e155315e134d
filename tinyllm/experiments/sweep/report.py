"""What `tinyllm sweep` and `tinyllm sweep status` print."""

import sys
from collections.abc import Sequence

from tinyllm.experiments.compare import short_names
from tinyllm.experiments.sweep.parent_run import experiment_name
from tinyllm.experiments.sweep.settings import Sweep
from tinyllm.experiments.sweep.space import Point
from tinyllm.experiments.sweep.trials import Trial, Trials

WIDE = 10_000  # characters: no limit


def title(sweep: Sweep) -> str:
    """A line that says what a sweep is."""
    content = sweep.content
    names = ", ".join(short_names(list(sweep.space)).values())
    points = "all combinations" if content.sampler == "grid" else content.sampler
    seeds = f", {len(content.seeds)} seeds each" if content.seeds else ""
    limits = [
        f"{content.trials} trials" if content.trials else "",
        f"{content.minutes:g} minutes" if content.minutes else "",
    ]
    limit = " or ".join(filter(None, limits)) or "all points"
    return f"sweep {content.name}: {names} ({points}{seeds}), {limit}; {content.metric} decides"


def line(trial: Trial, trials: Trials, identity: str) -> str:
    """A line about a trial that has finished."""
    best = trials.best()
    total = trials.sweep.content.trials
    count = f"{trial.index}/{total}" if total else str(trial.index)
    parts = [
        f"{count:>7}",
        f"{_value(trial):>10}",
        f"{_seconds(trial.seconds):>8}",
        settings_text(trials.point(trial)),
    ]
    if best is not None and best.index == trial.index:
        parts.append("best")
    elif best is not None:
        parts.append(f"(best {_value(best)}, {experiment_name(identity, best.index)})")
    if trial.note and trial.state == "failed":
        parts.append(trial.note)
    return "  ".join(parts)


def settings_text(point: Point) -> str:
    """A point in one line."""
    names = short_names(list(point))
    return " ".join(f"{names[name]}={value}" for name, value in point.items())


def print_table(trials: Trials, identity: str, budget: str) -> None:
    """Print the trials, best first, and what is left of the budget."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("trial", no_wrap=True)
    names = short_names(list(trials.sweep.space))
    for heading in (*names.values(), trials.sweep.content.metric):
        table.add_column(heading, justify="right")
    table.add_column("state")
    table.add_column("time", justify="right", no_wrap=True)
    found = ranked(trials)
    for trial in found:
        best = trial is found[0] and trial.state == "complete"
        cells = [
            experiment_name(identity, trial.index),
            *(str(value) for value in trials.point(trial).values()),
            "" if trial.value is None else f"{trial.value:.4f}",
            trial.state,
            _seconds(trial.seconds),
        ]
        table.add_row(*map(Text, cells), style="bold green" if best else None)
    if found:
        console.print(table)
    console.print(budget)


def ranked(trials: Trials) -> list[Trial]:
    """The trials: complete ones best first, then pruned, running and failed ones."""
    order = ("complete", "pruned", "running", "failed")
    return sorted(trials.all(), key=lambda t: (order.index(t.state), trials.rank(t), t.index))


def budget(sweep: Sweep, found: Sequence[Trial], elapsed: float) -> str:
    """What a sweep has done, and what is left of its budget."""
    states = [trial.state for trial in found]
    counts = [f"{states.count(s)} {s}" for s in ("complete", "pruned", "running", "failed")]
    done = ", ".join(text for text in counts if not text.startswith("0 ")) or "no trials yet"
    left = []
    if sweep.content.trials is not None:
        left.append(f"{max(0, sweep.content.trials - len(found))} trials")
    if sweep.content.minutes is not None:
        left.append(f"{max(0.0, sweep.content.minutes - elapsed / 60):.1f} minutes")
    return f"{done}; left: {' and '.join(left)}" if left else done


def winner(trials: Trials, identity: str) -> list[str]:
    """How to use the best trial."""
    best = trials.best()
    if best is None:
        return ["No trial is complete."]
    seeds = trials.sweep.content.seeds
    name = experiment_name(identity, best.index, seeds[0] if seeds else None)
    return [
        f"best: {experiment_name(identity, best.index)}, {trials.sweep.content.metric} "
        f"{best.value:.4f}: {settings_text(trials.point(best))}",
        f"`dvc exp apply {name}` makes it params.yaml",
    ]


def _value(trial: Trial) -> str:
    return f"{trial.value:.4f}" if trial.state == "complete" else trial.state


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.0f} s"
