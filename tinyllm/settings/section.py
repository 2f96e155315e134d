"""What a section of params.yaml is made of.

What each setting means, and its unit, stands beside it in `params.yaml`; the sections say what it
may be.
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
    """A part of params.yaml: frozen, strict about types, unknown keys refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )


def listed(value: Any) -> Any:
    """A setting of one or several; one alone need not be a list."""
    return [value] if isinstance(value, str) else value
