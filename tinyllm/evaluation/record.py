"""What the record of an evaluation contains.

The stage records its evaluation; `tinyllm.experiments.rebuild` records the same from its reports.
"""

from pathlib import Path

from tinyllm.common.files import read_json
from tinyllm.data.token_store import TokenSplit
from tinyllm.evaluation.analysis import metrics
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


def record(journal: Journal, reports: Path) -> None:
    """Record the scores and the reports of an evaluation."""
    scores = read_json(reports / SCORES)
    test, baselines = scores["test"], scores["baseline_bits_per_byte"]
    journal.metrics(0, {f"test/{name}": test[name] for name in MEASURES})
    journal.metrics(0, {f"baseline/{name}_bits_per_byte": v for name, v in baselines.items()})
    for step, values in metrics(read_json(reports / NUMBERS)):
        journal.metrics(step, values)
    journal.file(reports, f"reports/{reports.name}")
