"""Read `params.yaml` into frozen typed models, and report all errors at once.

Each stage checks all sections, so that a wrong setting of the last stage is found before the first
stage does any work. A stage depends only on the sections that it reads.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tinyllm.settings import strict_yaml
from tinyllm.settings.cross_checks import conflicts, show
from tinyllm.settings.download import Download
from tinyllm.settings.evaluate import Evaluate
from tinyllm.settings.hardware import Hardware
from tinyllm.settings.runtime import Runtime
from tinyllm.settings.section import Section
from tinyllm.settings.split import Split
from tinyllm.settings.tokenize import Tokenize
from tinyllm.settings.train import Train


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    download: Download
    tokenize: Tokenize
    split: Split
    train: Train
    evaluate: Evaluate
    hardware: Hardware
    runtime: Runtime


def load_params(path: Path, check_source: Callable[[str], None] | None = None) -> Params:
    """Read and check params.yaml.

    Args:
        check_source: Raises ValueError for an unknown `download.source`. Only the first stage
            passes it; the other stages do not depend on the catalogue.

    Raises:
        ValueError: Settings are wrong; one line for each: key, value, what it may be.
    """
    try:
        raw = strict_yaml.load(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(
            f"{path.name}: must contain one section per stage, but contains {show(raw)}"
        )
    params, errors = check_params(raw, check_source)
    if errors:
        lines = [f"{key}{message}" for key, message in errors.items()]
        raise ValueError("\n".join([f"{path.name} has {len(lines)} wrong setting(s):", *lines]))
    assert params is not None
    return params


def check_params(
    raw: dict[str, Any],
    check_source: Callable[[str], None] | None = None,
    *,
    together: bool = True,
) -> tuple[Params | None, dict[str, str]]:
    """Check settings that were read from YAML.

    Args:
        check_source: see `load_params`.
        together: whether to check settings against each other too.

    Returns:
        The settings, or None; and what is wrong with each setting, by its name.
    """
    params, errors = None, dict[str, str]()
    try:
        params = Params.model_validate(raw, context=check_source)
    except ValidationError as failure:
        errors = dict(map(explain, failure.errors()))
    if together:
        errors |= dict(conflicts(raw, set(errors)))
    return params, errors


def flatten(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested sections under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


# pydantic's wording, and ours.
WORDS = {
    "a valid boolean": "true or false",
    "True or False": "true or false",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid list": "a list",
    "String should have at least 1 character": "must not be empty",
}


def explain(error: Any) -> tuple[str, str]:
    """Return one of pydantic's errors as (key, what is wrong with it)."""
    parts = (str(part) for part in error["loc"])
    key = ".".join(part if part.isprintable() else repr(part) for part in parts)
    if error["type"] == "missing":
        return key, ": is missing"
    if error["type"] == "extra_forbidden":
        return key, ": is not a setting"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] == "model_type":
        message = "must be a section with settings"
    for theirs, ours in WORDS.items():
        message = message.replace(theirs, ours)
    quoted = isinstance(error["input"], str) and re.fullmatch(r"-?[\d.]+", error["input"])
    if quoted and message.endswith("number"):
        message += ", without quotes"
    return key, f" = {show(error['input'])}: {message}"
