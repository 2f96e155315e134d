"""The settings of `split`; `tokenize` assigns each document to a split by them."""

from typing import Annotated

from pydantic import Field

from tinyllm.settings.section import Fraction, Section


class Split(Section):
    validation_fraction: Fraction
    test_fraction: Fraction
    near_duplicates: Annotated[int, Field(ge=0)]
