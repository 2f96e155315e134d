"""The measurements of a training that depend on its inputs alone: no times, no rates.

Kept in memory as plain numbers, written as CSV.
"""

import io
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tinyllm.common.files import write_text
from tinyllm.evaluation.scores import MEASURES, Scores

TRAIN, VALIDATION = "train", "val"
STEP_COLUMNS = ("step", "loss", "learning_rate", "grad_norm")
EVALUATION_COLUMNS = ("step", *(f"{s}_{m}" for s in (TRAIN, VALIDATION) for m in MEASURES))


@dataclass
class Table:
    """Rows of numbers under named columns, the first of which is the step."""

    columns: tuple[str, ...]
    values: "array[float]" = field(default_factory=lambda: array("d"))  # row by row

    def add(self, row: dict[str, float]) -> None:
        self.values.extend(row[column] for column in self.columns)

    def rows(self) -> list[dict[str, float]]:
        """Each row as a dictionary from column name to value."""
        width = len(self.columns)
        rows = []
        for first in range(0, len(self.values), width):
            row = dict(zip(self.columns, self.values[first : first + width], strict=True))
            rows.append({**row, "step": int(row["step"])})
        return rows

    def write(self, path: Path) -> None:
        """Write the table as CSV, in full precision."""
        import pandas as pd

        text = io.StringIO()
        pd.DataFrame(self.rows()).to_csv(text, index=False, lineterminator="\n")
        write_text(path, text.getvalue())


@dataclass
class History:
    """One row per step and one row per evaluation."""

    steps: Table = field(default_factory=lambda: Table(STEP_COLUMNS))
    evaluations: Table = field(default_factory=lambda: Table(EVALUATION_COLUMNS))

    def add_step(self, step: int, values: dict[str, float]) -> None:
        self.steps.add({"step": step, **values})

    def add_evaluation(self, step: int, scores: dict[str, Scores]) -> None:
        row: dict[str, float] = {"step": step}
        for split, scored in scores.items():
            row |= {f"{split}_{name}": value for name, value in scored.as_dict().items()}
        self.evaluations.add(row)

    def tensors(self) -> dict[str, Tensor]:
        """Both tables as flat fp64 arrays, which store the numbers exactly."""
        tables = {"steps": self.steps, "evaluations": self.evaluations}
        return {name: torch.from_numpy(np.array(t.values)) for name, t in tables.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load the arrays that `tensors` returned."""
        self.steps.values = array("d", tensors["steps"].tolist())
        self.evaluations.values = array("d", tensors["evaluations"].tolist())
