"""The names of curves in MLflow."""

# MLflow groups its charts by the part of a name before "/" and sorts the groups: `best`,
# `bits_per_byte` and `loss` are the first.
FIRST = ("bits_per_byte", "loss")  # measures with a group of their own


def curve(measure: str, split: str) -> str:
    """The name of an evaluation's score on a split: "train" or "val"."""
    return f"{measure}/{split}" if measure in FIRST else f"{split}/{measure}"
