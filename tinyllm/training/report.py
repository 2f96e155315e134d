"""What training leaves for people: tables, numbers and a picture, the same bytes every time."""

from pathlib import Path

from tinyllm.files import publish_folder, write_json
from tinyllm.pictures import loss_curve
from tinyllm.training.history import VALIDATION
from tinyllm.training.state import TrainState

STEPS, EVALUATIONS, METRICS, PICTURE = "steps.csv", "evaluations.csv", "metrics.json", "loss.png"


def write(folder: Path, state: TrainState) -> None:
    """Publish a folder of reports on a finished training."""
    history, best = state.history, state.best
    evaluations = history.evaluations.rows()
    with publish_folder(folder) as new:
        history.steps.write(new / STEPS)
        history.evaluations.write(new / EVALUATIONS)
        row = next(row for row in evaluations if row["step"] == best.step)
        scores = {
            name.removeprefix(f"{VALIDATION}_"): value
            for name, value in row.items()
            if name.startswith(VALIDATION)
        }
        write_json(
            new / METRICS,
            {
                "parameters": state.model.n_parameters,
                "steps": state.step,
                "best_step": best.step,
                "val": scores,
            },
        )
        loss_curve(new / PICTURE, history.steps.rows(), evaluations, best.step)
