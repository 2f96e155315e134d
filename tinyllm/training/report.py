"""The reports of a training: tables, numbers and a picture, the same bytes every time."""

from pathlib import Path

from tinyllm.common.files import publish_folder, write_json
from tinyllm.pictures import loss_curve
from tinyllm.training.history import VALIDATION
from tinyllm.training.state import TrainState

STEPS, EVALUATIONS, PICTURE = "steps.csv", "evaluations.csv", "loss.png"
METRICS = "metrics.json"  # a column each in `dvc exp show`: few enough to fit a terminal
SUMMARY = "summary.json"


def write(folder: Path, state: TrainState) -> None:
    """Publish the folder of reports of a finished training."""
    history = state.history
    evaluations = history.evaluations.rows()
    with publish_folder(folder) as new:
        history.steps.write(new / STEPS)
        history.evaluations.write(new / EVALUATIONS)
        row = next(row for row in evaluations if row["step"] == state.saved_step)
        scores = {
            name.removeprefix(f"{VALIDATION}_"): value
            for name, value in row.items()
            if name.startswith(VALIDATION)
        }
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
        loss_curve(new / PICTURE, history.steps.rows(), evaluations, state.best.step)
