"""What training measured, as far as it follows from the inputs alone: no time, no rate.

Kept in memory as plain numbers, written as CSV for `dvc plots` and people.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path

from tinyllm.evaluation import Scores
from tinyllm.files import write_text

TRAIN, VALIDATION = "train", "val"


@dataclass
class History:
    """A row a step, and a row an evaluation.

    Attributes:
        steps: step, loss, learning_rate, grad_norm.
        evaluations: step, then each score of the training and of the validation windows.
    """

    steps: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)

    def add_step(self, step: int, values: dict[str, float]) -> None:
        self.steps.append({"step": step, **values})

    def add_evaluation(self, step: int, scores: dict[str, Scores]) -> None:
        row: dict[str, float] = {"step": step}
        for split, scored in scores.items():
            row |= {f"{split}_{name}": value for name, value in scored.as_dict().items()}
        self.evaluations.append(row)

    def write(self, steps: Path, evaluations: Path) -> None:
        """Write both tables, in full precision."""
        import pandas as pd

        for path, rows in ((steps, self.steps), (evaluations, self.evaluations)):
            text = io.StringIO()
            pd.DataFrame(rows).to_csv(text, index=False, lineterminator="\n")
            write_text(path, text.getvalue())
