"""The data that a run reads, as its record describes it."""

from dataclasses import asdict
from typing import Any

from tinyllm.data.token_store import TokenSplit


def dataset(name: str, split: TokenSplit, role: str) -> dict[str, Any]:
    """A split's entry in a run's header; `role` is MLflow's context of a dataset."""
    return {
        "name": name,
        "digest": split.summary.sha256[:32],  # MLflow allows 36 characters
        "source": str(split.path),
        "role": role,
        "profile": asdict(split.summary),
    }
