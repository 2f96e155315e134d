"""What the record of an evaluation contains.

The stage records its evaluation; `tinyllm.experiments.rebuild` records the same from its reports.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyllm.common.files import read_json
from tinyllm.data.token_store import TokenSplit
from tinyllm.evaluation.analysis import GROUPS
from tinyllm.evaluation.analysis_report import NUMBERS
from tinyllm.evaluation.final_scores import SCORES
from tinyllm.evaluation.scores import MEASURES
from tinyllm.settings.load import Params, flatten
from tinyllm.tracking.datasets import dataset
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.origin import Origin


def header(params: Params, test: TokenSplit, model_sha256: str, origin: Origin) -> Header:
    """Describe an evaluation's run.

    Name, tags and note are used only if the model's own run is missing or has scores with other
    settings; otherwise the scores are added to that run.
    """
    return Header(
        stage="evaluate",
        name=origin.name or "evaluate",
        # Without `register_as`, which changes no score: MLflow's parameters never change.
        params=flatten({"evaluate": params.evaluate.model_dump(exclude={"register_as"})}),
        tags=origin.tags,
        note=origin.note(f"Test scores of the model {model_sha256[:12]}"),
        model_sha256=model_sha256,
        twin_tag=origin.twin_tag,
        datasets=[dataset("test split", test, "testing")],
    )


def record(journal: Journal, reports: Path, page: Path) -> None:
    """Record the scores and the reports of an evaluation, and the page about the run."""
    scores = read_json(reports / SCORES)
    test, baselines = scores["test"], scores["baseline_bits_per_byte"]
    journal.metrics(0, {f"test/{name}": test[name] for name in MEASURES})
    journal.metrics(0, {f"test_baselines/{name}_bits_per_byte": v for name, v in baselines.items()})
    for step, values in analysis_metrics(read_json(reports / NUMBERS)):
        journal.metrics(step, values)
    journal.file(reports, f"reports/{reports.name}")
    journal.file(page, f"reports/{page.name}")


def analysis_metrics(analysis: dict[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the metrics of an analysis with their steps, given what `Analysis.as_dict` returned.

    A loss by position has the position as its step, so that MLflow draws a curve. `words/...` is
    MLflow's last group of charts, as it sorts them by name.
    """
    found = {"test/calibration_error": analysis["calibration"]["error"]}
    for group in GROUPS:
        numbers = analysis[group]
        values = {name: numbers[name] for name in ("ended", "repeated", "verbatim")}
        values |= {f"distinct_{n}": v for n, v in enumerate(numbers["distinct"], start=1)}
        found |= {f"words/{group}_{name}": value for name, value in values.items()}
    yield 0, found
    for table in ("context", "document"):
        for row in analysis[table]:
            yield int(row["last"]), {f"test/loss_by_{table}": row["loss"]}
