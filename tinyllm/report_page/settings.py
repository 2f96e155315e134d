"""The settings that the page lists, beside the project's defaults."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyllm.settings.train import Train

# The settings of params.yaml as the project ships it, by dotted name. A user's own params.yaml
# can't tell what it changed; a test compares the file with the one in Git.
DEFAULTS = Path(__file__).with_name("defaults.json")
TRAIN = "train"
LONGEST = 300  # characters of a value

Row = dict[str, Any]


def read_defaults() -> dict[str, Any]:
    """The default of each setting, by dotted name."""
    defaults: dict[str, Any] = json.loads(DEFAULTS.read_text(encoding="utf-8"))
    return defaults


def setting_rows(values: Mapping[str, Any]) -> list[Row]:
    """A row for each setting: name, value, default and whether they differ; those first.

    Args:
        values: by dotted name. Where the default is null, `train` settings are those that were
            derived: what follows from the others is no difference.
    """
    defaults = read_defaults()
    shape = {name.removeprefix(f"{TRAIN}."): v for name, v in (defaults | dict(values)).items()}
    rows = []
    for name, value in values.items():
        default = defaults.get(name)
        if default is None and name.startswith(f"{TRAIN}."):
            default = _derived(name.removeprefix(f"{TRAIN}."), shape)
        changed = name in defaults and shown(value) != shown(default)
        rows.append(
            {"name": name, "value": shown(value), "default": shown(default), "changed": changed}
        )
    return sorted(rows, key=lambda row: not row["changed"])


def _derived(name: str, shape: Mapping[str, Any]) -> Any:
    """What a setting of `train` is if params.yaml has null."""
    settings = Train.model_construct(**{**shape, name: None})
    return getattr(settings.resolve(), name, None)


def shown(value: Any) -> str:
    """A value as params.yaml has it, cut if it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
