"""The settings of `evaluate`."""

from typing import Annotated

from pydantic import Field

from tinyllm.settings.section import Count, NonNegative, Section, Text


class Evaluate(Section):
    batch_size: Count | None
    stride: Count | None
    prompts: list[Text]
    documents: Count
    sample_tokens: Count
    temperature: NonNegative
    top_k: Count | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
