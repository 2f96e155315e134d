"""What `tinyllm compare A B` prints."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict

from tinyllm.evaluation.paired import CONFIDENCE, PairedDifference
from tinyllm.experiments.compare import Compared
from tinyllm.experiments.difference import (
    Place,
    Places,
    Seeds,
    choose,
    find_places,
    measure,
    over_seeds,
    paired,
)
from tinyllm.experiments.runs import Run

LINE = 72  # characters of a document or context that are shown


def compare_two(runs: Sequence[Run], names: Sequence[str], form: str | None) -> None:
    """Print whether the first of two runs is better than the second, and where.

    Raises:
        ValueError: a run does not exist, has no scores, or they were scored on different tokens.
    """
    first, second = (choose(runs, name) for name in names)
    measured = measure(first), measure(second)
    difference = paired(*measured)
    seeds = over_seeds(runs, first, second)
    found = find_places(*measured)
    if form == "json":
        print(json.dumps(as_record(first, second, difference, seeds, found), indent=2))
        return
    for line in lines(first, second, difference, seeds, found):
        print(line)


def as_record(
    first: Run, second: Run, difference: PairedDifference, seeds: Seeds | None, found: Places | None
) -> dict[str, object]:
    """The comparison as a JSON object; all differences are the first minus the second."""
    return {
        "runs": [run.run_id or run.revision for run in (first, second)],
        "test_bits_per_byte": [first.test, second.test],
        "settings": {
            name: [run.settings.get(name) for run in (first, second)]
            for name in Compared.of([first, second]).differing
        },
        "test_tokens": asdict(difference) | {"is_beyond_chance": difference.is_beyond_chance},
        "seeds": None if seeds is None else asdict(seeds) | {"mean": seeds.mean},
        "places": None if found is None else asdict(found),
    }


def lines(
    first: Run, second: Run, difference: PairedDifference, seeds: Seeds | None, found: Places | None
) -> list[str]:
    """The comparison as text."""
    names = [f"A  {first.short_id}  {first.name}", f"B  {second.short_id}  {second.name}"]
    width = max(map(len, names))
    shown = [
        f"{name:{width}}  {run.test:.4f} bits/byte"
        for name, run in zip(names, (first, second), strict=True)
    ]
    for name in Compared.of([first, second]).differing:
        ours, theirs = (run.settings.get(name, "not set") for run in (first, second))
        shown.append(f"   {name}: {ours} (A), {theirs} (B)")
    shown += ["", *_over_tokens(difference), "", *_over_seeds(seeds)]
    if found is None:
        shown += ["", "The test split in this folder is not that of these runs: no text is shown."]
    else:
        shown += _places("documents", "bits/byte", found.documents)
        shown += _places("tokens", "bits", found.tokens)
    return shown


def _over_tokens(found: PairedDifference) -> list[str]:
    better = "A is better" if found.mean < 0 else "B is better"
    low, high = sorted((abs(found.low), abs(found.high)))
    if found.is_beyond_chance:
        return [
            f"On the test text, {better} by {abs(found.mean):.4f} bits/byte, more than chance "
            "explains",
            f"({CONFIDENCE:.0%} interval: {low:.4f} to {high:.4f}, over {found.clusters} documents "
            "or parts of them).",
        ]
    return [
        f"On the test text, {better} by {abs(found.mean):.4f} bits/byte, which chance explains",
        f"({CONFIDENCE:.0%} interval of A - B: {found.low:+.4f} to {found.high:+.4f}, over "
        f"{found.clusters} documents or parts of them).",
    ]


def _over_seeds(seeds: Seeds | None) -> list[str]:
    if seeds is None:
        return [
            "This compares two models. To compare their settings, repeat both with other seeds:",
            "`dvc exp run -S seed=1`.",
        ]
    verdict = (
        "more than chance explains" if seeds.low > 0 or seeds.high < 0 else "which chance explains"
    )
    better = "A" if seeds.mean < 0 else "B"
    return [
        f"Over {len(seeds.first)} and {len(seeds.second)} seeds, the settings of {better} are "
        f"better by {abs(seeds.mean):.4f} bits/byte, {verdict}",
        f"(means {_mean(seeds.first)} and {_mean(seeds.second)}; {CONFIDENCE:.0%} interval of "
        f"A - B: {seeds.low:+.4f} to {seeds.high:+.4f}).",
    ]


def _mean(scores: list[float]) -> str:
    return f"{statistics.mean(scores):.4f} ± {statistics.stdev(scores):.4f}"


def _places(kind: str, unit: str, found: list[Place]) -> list[str]:
    shown = ["", f"The {kind} on which they differ most (A - B, {unit}):"]
    for place in found:
        text = place.text.replace("\n", "↵")
        if kind == "tokens":
            before = place.before.replace("\n", "↵")[-LINE + len(text) :]
            text = f"{before}▶{text}◀"
        shown.append(f"  {place.bits:+8.3f}  {text[: LINE + 2]}")
    return shown
