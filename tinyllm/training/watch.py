"""Tells the journal and the terminal what happens in training; nothing here changes a result."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tinyllm.evaluation import Scores
from tinyllm.files import sha256_of
from tinyllm.model import TinyLLM
from tinyllm.params import Params
from tinyllm.runtime import Compute
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.provenance import PATCH, Provenance, dataset, flatten, provenance
from tinyllm.tracking.resources import Resources
from tinyllm.training.data import TrainingData
from tinyllm.training.history import TRAIN, VALIDATION
from tinyllm.training.progress import Progress

# Where each split's evaluations stand in MLflow; `train/loss` is that of each step's batch.
GROUPS = {TRAIN: "train_eval", VALIDATION: "val"}
# Steps between what changes slowly or is read better as a mean: half of what a step tells MLflow,
# which spends 0.05 ms on each number.
PACE = 10
ROLES = {TRAIN: "training", VALIDATION: "validation"}


class Watch:
    """A `Watcher` that records every step and evaluation in the journal and shows them."""

    def __init__(self, journal: Journal, progress: Progress, resources: Resources) -> None:
        self.journal = journal
        self.progress = progress
        self.resources = resources
        self._speeds: list[float] = []

    def step(self, step: int, values: dict[str, float]) -> None:
        self._speeds.append(self.progress.step(values["loss"], values["learning_rate"]))
        metrics = {f"train/{name}": values[name] for name in ("loss", "grad_norm")}
        if step % PACE == 0:
            metrics["train/learning_rate"] = values["learning_rate"]
            metrics["train/tokens_per_second"] = statistics.harmonic_mean(self._speeds)
            self._speeds.clear()
        metrics |= self.resources.read()
        self.journal.metrics(step, metrics)

    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None:
        metrics = {
            f"{GROUPS[split]}/{name}": value
            for split, scored in scores.items()
            for name, value in scored.as_dict().items()
        }
        self.journal.metrics(step, metrics)
        self.progress.evaluation(step, scores, best)

    def keep(self, model: Path, weights: str, reports: Path) -> None:
        """Record the finished model, by the hash that other stages find the run by, and reports."""
        self.journal.tags({"tinyllm.model_sha256": sha256_of(model / weights)})
        self.journal.file(model, "model")
        self.journal.file(reports, f"reports/{reports.name}")


@contextmanager
def watch(params: Params, compute: Compute, data: TrainingData, model: TinyLLM) -> Iterator[Watch]:
    """Begin a run in the journal and on the terminal; it ends with the block."""
    train = params.train
    print(
        f"train: {model.n_parameters:,} parameters, {data.splits[TRAIN].summary.tokens:,} tokens, "
        f"{compute.device_name} ({compute.device}, {compute.precision}, "
        f"{compute.threads} threads)",
        flush=True,
    )
    tokens = train.batch_size * train.context_length
    origin = provenance()
    with (
        Journal(header(params, compute, data, model, origin), params.runtime) as journal,
        Progress(train.max_steps, first_step=0, step_tokens=tokens) as progress,
    ):
        if origin.patch:
            journal.content(PATCH, origin.patch)
        yield Watch(journal, progress, Resources(params.runtime.resource_interval))


def header(
    params: Params, compute: Compute, data: TrainingData, model: TinyLLM, origin: Provenance
) -> Header:
    """All that is known of a training run when it begins."""
    train, config = params.train.resolve(), data.model_config
    resolved = {
        "parameters": model.n_parameters,
        "vocab_size": config.vocab_size,
        "micro_batch_size": train.micro_batch_size,
        "decay_steps": train.decay_steps,
        **asdict(compute),
    }
    size = f"{config.n_layer}x{config.d_model}-{model.n_parameters / 1e6:.1f}M"
    return Header(
        stage="train",
        name=origin.experiment or f"{size}-seed{params.seed}",
        params={
            # What `evaluate` is set to, it records itself: it may run again with other settings.
            **flatten(params.model_dump(exclude={"evaluate"})),
            **{f"resolved.{key}": value for key, value in resolved.items()},
        },
        tags=origin.tags(),
        note=origin.note(
            f"{config.n_layer} layers of width {config.d_model}, {model.n_parameters:,} "
            f"parameters, seed {params.seed}, {compute.device_name}"
        ),
        datasets=[
            dataset(f"{split} split", held, ROLES[split]) for split, held in data.splits.items()
        ],
    )
