"""What training leaves for people: tables, numbers and a picture, the same bytes every time."""

from pathlib import Path

from tinyllm.files import publish_folder, write_json
from tinyllm.model import TinyLLM
from tinyllm.pictures import loss_curve
from tinyllm.training.history import VALIDATION, History
from tinyllm.training.trainer import Best

STEPS, EVALUATIONS, METRICS, PICTURE = "steps.csv", "evaluations.csv", "metrics.json", "loss.png"


def write(folder: Path, history: History, best: Best, model: TinyLLM) -> None:
    """Publish a folder of reports."""
    with publish_folder(folder) as new:
        history.write(new / STEPS, new / EVALUATIONS)
        row = next(row for row in history.evaluations if row["step"] == best.step)
        scores = {
            name.removeprefix(f"{VALIDATION}_"): value
            for name, value in row.items()
            if name.startswith(VALIDATION)
        }
        write_json(
            new / METRICS,
            {
                "parameters": model.n_parameters,
                "steps": len(history.steps),
                "best_step": best.step,
                "val": scores,
            },
        )
        loss_curve(new / PICTURE, history.steps, history.evaluations, best.step)
