"""Records a training in the journal and shows it on the terminal; changes no result."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tinyllm.common.files import read_json, sha256_of
from tinyllm.compute import Compute
from tinyllm.evaluation.scores import Scores
from tinyllm.models.folder import WEIGHTS
from tinyllm.models.model import Model
from tinyllm.settings.load import Params, flatten
from tinyllm.tracking.datasets import dataset
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.origin import PATCH, Origin
from tinyllm.training.data import TrainingData
from tinyllm.training.display.progress import Progress
from tinyllm.training.display.resources import Resources
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.history import TRAIN, VALIDATION
from tinyllm.training.report import SUMMARY
from tinyllm.training.state import TrainState

# Prefix of each split's evaluations in MLflow; `train/loss` is the loss of each step's batch.
GROUPS = {TRAIN: "train_eval", VALIDATION: "val"}
ROLES = {TRAIN: "training", VALIDATION: "validation"}


class Watch:
    """A `Watcher` that records every step and evaluation in the journal and shows them."""

    def __init__(self, journal: Journal, progress: Progress, resources: Resources) -> None:
        self.journal = journal
        self.progress = progress
        self.resources = resources

    def step(self, step: int, values: dict[str, float]) -> None:
        speed = self.progress.step(values["loss"], values["learning_rate"])
        metrics = {f"train/{name}": value for name, value in values.items()}
        metrics["train/tokens_per_second"] = speed
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

    def keep(self, model: Path, reports: Path) -> None:
        """Record the finished model, its reports, and its hash, by which stages find the run."""
        record_best(self.journal, reports)
        self.journal.tags({"tinyllm.model_sha256": sha256_of(model / WEIGHTS)})
        self.journal.file(model, "model")
        self.journal.file(reports, f"reports/{reports.name}")


class Silence:
    """The `Watcher` of every rank but the first: records and shows nothing."""

    def step(self, step: int, values: dict[str, float]) -> None:
        pass

    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None:
        pass

    def keep(self, model: Path, reports: Path) -> None:
        pass


@contextmanager
def watch(
    state: TrainState, data: TrainingData, compute: Compute, params: Params, bookmark: Path,
    origin: Origin, processes: Processes = ALONE,
) -> Iterator[Watch | Silence]:  # fmt: skip
    """Start a run in the journal and on the terminal; it ends with the block.

    Ranks other than the first record and show nothing.
    """
    if not processes.first:
        yield Silence()
        return
    train, model = params.train, state.model
    print(
        f"train: {model.n_parameters:,} parameters, {data.splits[TRAIN].summary.tokens:,} tokens, "
        f"{compute.device_name} ({compute.device}, {compute.precision}, "
        f"{'' if compute.world_size == 1 else f'{compute.world_size} processes, each '}"
        f"{compute.threads} threads{', compiled' if compute.compiled else ''})",
        flush=True,
    )
    tokens = train.batch_size * train.context_length
    with (
        Journal(header(params, compute, data, model, origin), params.runtime, bookmark) as journal,
        Progress(train.max_steps, first_step=state.step, step_tokens=tokens) as progress,
    ):
        if origin.patch:
            journal.content(PATCH, origin.patch)
        yield Watch(journal, progress, Resources(params.runtime.resource_interval))


def record_best(journal: Journal, reports: Path) -> None:
    """Record the scores of the saved weights, so that MLflow can sort trainings by them.

    `val/loss` does not do: MLflow shows a metric's last value, and the best may be an earlier one.
    """
    summary = read_json(reports / SUMMARY)
    scores = {f"best/{name}": summary["val"][name] for name in ("loss", "bits_per_byte")}
    journal.metrics(summary["steps"], {**scores, "best/step": summary["saved_step"]})


def header(
    params: Params, compute: Compute, data: TrainingData, model: Model, origin: Origin
) -> Header:
    """Everything known about a training run when it starts."""
    train, config = params.train.resolve(), data.model_config
    resolved = {
        "parameters": model.n_parameters,
        "vocab_size": config.vocab_size,
        "micro_batch_size": min(
            train.micro_batch_size or 1, train.batch_size // compute.world_size
        ),
        "decay_steps": train.decay_steps,
        **asdict(compute),
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
        tags=origin.tags,
        note=origin.note(
            f"{config.n_layer} layers of width {config.d_model}, {model.n_parameters:,} "
            f"parameters, seed {params.seed}, {compute.device_name}"
        ),
        twin_tag=origin.twin_tag,
        datasets=[
            dataset(f"{split} split", held, ROLES[split]) for split, held in data.splits.items()
        ],
    )
