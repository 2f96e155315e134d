"""The model that a training started from, for the training's run."""

from pathlib import Path

from tinyllm.common.files import read_json, sha256_of
from tinyllm.models.folder import WEIGHTS

ORIGIN = "origin.json"  # `tinyllm fetch` writes it into the folder of a model that it copies
TAG = "tinyllm.init_from"


def lineage(base: Path | None) -> dict[str, str]:
    """The tags of a training that started from a model: its hash, and where it came from.

    The run that trained the model has the same hash in `tinyllm.model_sha256`.

    Args:
        base: the model's folder; None if training started from random weights.
    """
    if base is None:
        return {}
    known = origin(base) | {"sha256": sha256_of(base / WEIGHTS)}
    return {f"{TAG}_{key}": str(value) for key, value in known.items()}


def origin(base: Path) -> dict[str, object]:
    """What `tinyllm fetch` recorded of a model's origin; empty if it was not fetched."""
    try:
        found = read_json(base / ORIGIN)
    except ValueError:
        return {}
    return {key: value for key, value in found.items() if isinstance(value, (str, int, float))}
