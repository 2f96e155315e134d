"""The base class and the types of the sections of params.yaml.

Comments in `params.yaml` say what each setting means, with its unit; the classes say which values
it may have.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A section of params.yaml: frozen, with strict types, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )


def listed(value: Any) -> Any:
    """Return a list; a single value may be written without brackets."""
    return [value] if isinstance(value, str) else value
