"""A sweep reads the scores of a training while it runs."""

from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.tracking.helpers import Project, header, settings
from tests.tracking.test_watch import ORIGIN
from tinyllm.experiments.provenance import EXPERIMENT_TAG
from tinyllm.experiments.sweep.parent_run import SWEEP_TAG
from tinyllm.experiments.sweep.settings import METRICS, load_sweep
from tinyllm.experiments.sweep.training_watch import TrainingWatch
from tinyllm.tracking.journal import Journal
from tinyllm.training.display.record import Record
from tinyllm.training.history import TRAIN, VALIDATION

SCORES = {"loss": 3.0, "bits_per_byte": 1.5, "accuracy": 0.4}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.usefixtures("no_follower")
def test_every_metric_is_read_as_the_training_records_it(
    project: Project, tmp_path: Path, metric: str
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"vary:\n  train.n_layer: [1]\nmetric: {metric}\n", encoding="utf-8")
    sweep = load_sweep(path, ROOT / "params.yaml")
    tags = {EXPERIMENT_TAG: "sweep-001", SWEEP_TAG: "an identity"}
    watch = TrainingWatch("sweep-001", SWEEP_TAG, "an identity", sweep.curve)
    assert watch.new_scores() == []
    with Journal(header(tags=tags), settings()) as journal:
        record = Record(journal, ORIGIN)
        expected = SCORES[metric.removeprefix("val.")]
        for step in (10, 20):
            record.evaluation(
                step,
                {TRAIN: dict.fromkeys(SCORES, 9.0), VALIDATION: {**SCORES, "perplexity": 20.0}},
            )
            assert watch.new_scores() == [(step, expected)]
    assert project.root == tmp_path
