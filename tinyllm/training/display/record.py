"""What the record of a training contains.

The stage records a training step by step; `tinyllm.experiments.rebuild` records the same from the
reports of a finished one.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tinyllm.common.files import read_json, sha256_of
from tinyllm.compute import Compute
from tinyllm.models.folder import WEIGHTS
from tinyllm.models.model import Model
from tinyllm.settings.init_from import base_model
from tinyllm.settings.load import Params, flatten
from tinyllm.tracking.curves import FIRST, curve
from tinyllm.tracking.datasets import dataset
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.lineage import lineage
from tinyllm.tracking.mlflow.runs import MODEL_TAG
from tinyllm.tracking.origin import PATCH, Origin
from tinyllm.training.data import TrainingData
from tinyllm.training.history import TRAIN, VALIDATION
from tinyllm.training.report import SUMMARY

SPLITS = {TRAIN: "train", VALIDATION: "val"}
BATCH_LOSS = "loss/batch"  # of each step
ROLES = {TRAIN: "training", VALIDATION: "validation"}


def header(
    params: Params, compute: Compute | None, data: TrainingData, model: Model, origin: Origin
) -> Header:
    """Everything known about a training run when it starts.

    Args:
        compute: None if the hardware is not known any more.
    """
    train, config = params.train.resolve(), data.model_config
    processes = 1 if compute is None else compute.world_size
    resolved = {
        "parameters": model.n_parameters,
        "vocab_size": config.vocab_size,
        "micro_batch_size": min(train.micro_batch_size or 1, train.batch_size // processes),
        "decay_steps": train.decay_steps,
        **({} if compute is None else asdict(compute)),
    }
    size = f"{config.n_layer}x{config.d_model}-{model.n_parameters / 1e6:.1f}M"
    return Header(
        stage="train",
        name=origin.name or f"{size}-seed{params.seed}",
        params={
            # `evaluate` records its own settings: it may run again with other ones.
            **flatten(params.model_dump(exclude={"evaluate"})),
            **{f"resolved.{key}": value for key, value in resolved.items()},
        },
        tags=origin.tags | lineage(base_model(train.init_from)),
        note=origin.note(
            f"{config.n_layer} layers of width {config.d_model}, {model.n_parameters:,} "
            f"parameters, seed {params.seed}, "
            f"{'hardware unknown' if compute is None else compute.device_name}"
        ),
        twin_tag=origin.twin_tag,
        datasets=[
            dataset(f"{split} split", held, ROLES[split]) for split, held in data.splits.items()
        ],
    )


class Record:
    """The record of a training, in its journal.

    Args:
        journal: has the run's `header`.
    """

    def __init__(self, journal: Journal, origin: Origin) -> None:
        self.journal = journal
        if origin.patch:
            journal.content(PATCH, origin.patch)
        for name, content in origin.files.items():
            journal.content(name, content)

    def step(
        self, step: int, values: Mapping[str, float], measured: Mapping[str, float] | None = None
    ) -> None:
        """Record the loss, learning rate and gradient norm of a step.

        Args:
            measured: what differs from one run of the training to the next, under its full name.
        """
        names = {name: BATCH_LOSS if name == "loss" else f"train/{name}" for name in values}
        metrics = {names[name]: value for name, value in values.items()}
        self.journal.metrics(step, metrics | dict(measured or {}))

    def evaluation(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Record the scores of each split: measure to value."""
        metrics = {
            curve(measure, SPLITS[split]): value
            for split, values in scores.items()
            for measure, value in values.items()
        }
        self.journal.metrics(step, metrics)

    def finish(self, model: Path, reports: Path) -> None:
        """Record the finished model, its reports, and its hash, by which stages find the run.

        The scores of the saved weights are `best/...`, so that MLflow can sort trainings by them.
        `loss/val` does not do: MLflow shows a metric's last value, and the best may be an earlier
        one. Their step is 0, so that MLflow draws a bar for each run; `train/saved_step` is theirs.
        """
        summary = read_json(reports / SUMMARY)
        self.journal.metrics(0, {f"best/{name}": summary["val"][name] for name in FIRST})
        self.journal.metrics(0, {"train/saved_step": summary["saved_step"]})
        self.journal.tags({MODEL_TAG: sha256_of(model / WEIGHTS)})
        self.journal.file(model, "model")
        self.journal.file(reports, f"reports/{reports.name}")
