"""The settings of `evaluate`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tinyllm.settings.section import Count, NonNegative, Section, Text


def _registered_name(name: str) -> str:
    if any(character in name for character in "/:"):
        raise ValueError("must not contain / or :, which MLflow does not allow")
    return name


class Evaluate(Section):
    batch_size: Count | None
    stride: Count | None
    prompts: list[Text]
    documents: Count
    sample_tokens: Count
    temperature: NonNegative
    top_k: Count | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    register_as: Annotated[Text, Field(max_length=250), AfterValidator(_registered_name)] | None
