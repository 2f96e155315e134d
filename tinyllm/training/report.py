"""The reports of a training: tables, numbers and a picture, the same bytes every time."""

import csv
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tinyllm.common.files import publish_folder, write_json
from tinyllm.compute import Compute
from tinyllm.evaluation.scores import MEASURES
from tinyllm.model_card.facts import Training
from tinyllm.pictures.loss import LOSS, loss_curve
from tinyllm.settings.load import Params
from tinyllm.training.data import TrainingData
from tinyllm.training.history import TRAIN, VALIDATION
from tinyllm.training.state import TrainState

STEPS, EVALUATIONS = "steps.csv", "evaluations.csv"
METRICS = "metrics.json"  # a column each in tables of runs: few enough to fit a terminal
SUMMARY = "summary.json"


def write(folder: Path, state: TrainState) -> None:
    """Publish the folder of reports of a finished training."""
    history = state.history
    evaluations = history.evaluations.rows()
    with publish_folder(folder) as new:
        history.steps.write(new / STEPS)
        history.evaluations.write(new / EVALUATIONS)
        scores = validation_scores(state)
        write_json(new / METRICS, {"val": {"bits_per_byte": scores["bits_per_byte"]}})
        write_json(
            new / SUMMARY,
            {
                "parameters": state.model.n_parameters,
                "steps": state.step,
                "saved_step": state.saved_step,
                "val": scores,
            },
        )
        loss_curve(new / LOSS, history.steps.rows(), evaluations, state.best.step)


def validation_scores(state: TrainState) -> dict[str, float]:
    """The scores of the saved weights on the validation set."""
    rows = state.history.evaluations.rows()
    row = next(row for row in rows if row["step"] == state.saved_step)
    return {
        name.removeprefix(f"{VALIDATION}_"): value
        for name, value in row.items()
        if name.startswith(VALIDATION)
    }


def facts(state: TrainState, data: TrainingData, compute: Compute, params: Params) -> Training:
    """What a finished training knows of its model, for the model card."""
    text, splits = data.summary.text, data.summary.splits
    return Training(
        parameters=state.model.n_parameters,
        seed=params.seed,
        settings=params.train.resolve().model_dump(),
        precision=compute.precision,
        tokenizer=data.tokenizer.encoding.name,
        vocab_size=data.tokenizer.vocab_size,
        text=None if text is None else asdict(text),
        splits={name: asdict(split) for name, split in splits.items()},
        steps=state.step,
        saved_step=state.saved_step,
        validation=validation_scores(state),
    )


def read_steps(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Each step of a report, and its values by name."""
    for row in _rows(folder / STEPS):
        yield int(row.pop("step")), row


def read_evaluations(folder: Path) -> Iterator[tuple[int, dict[str, dict[str, float]]]]:
    """The step of each evaluation of a report, and the scores of each split."""
    for row in _rows(folder / EVALUATIONS):
        scores = {s: {m: row[f"{s}_{m}"] for m in MEASURES} for s in (TRAIN, VALIDATION)}
        yield int(row["step"]), scores


def _rows(path: Path) -> Iterator[dict[str, float]]:
    """The rows of a table; pandas writes NaN as an empty field."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: float(text or "nan") for name, text in row.items()}
