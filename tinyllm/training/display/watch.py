"""Records a training in the journal and shows it on the terminal; changes no result."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyllm.compute import Compute
from tinyllm.evaluation.scores import Scores
from tinyllm.settings.load import Params
from tinyllm.tracking.journal import Journal
from tinyllm.tracking.origin import Origin
from tinyllm.training.data import TrainingData
from tinyllm.training.display.progress import Progress
from tinyllm.training.display.record import Record, header
from tinyllm.training.display.resources import Resources
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.history import TRAIN
from tinyllm.training.state import TrainState


class Watch:
    """A `Watcher` that records every step and evaluation and shows them."""

    def __init__(self, record: Record, progress: Progress, resources: Resources) -> None:
        self.record = record
        self.progress = progress
        self.resources = resources

    def step(self, step: int, values: dict[str, float]) -> None:
        speed = self.progress.step(values["loss"], values["learning_rate"])
        measured = {"train/tokens_per_second": speed, **self.resources.read()}
        self.record.step(step, values, measured)

    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None:
        self.record.evaluation(step, {split: held.as_dict() for split, held in scores.items()})
        self.progress.evaluation(step, scores, best)

    def keep(self, model: Path, reports: Path) -> None:
        """Record the finished model and its reports."""
        self.record.finish(model, reports)


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
        resources = Resources(params.runtime.resource_interval)
        yield Watch(Record(journal, origin), progress, resources)
