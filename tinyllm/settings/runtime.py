"""The settings of how the pipeline runs and what it shows; none of them changes a result."""

from typing import Annotated, Literal

from pydantic import Field

from tinyllm.settings.section import Count, Positive, Section, Text


class Runtime(Section):
    num_workers: Annotated[int, Field(ge=0, le=1024)]
    pin_memory: bool
    tracker: Literal["mlflow", "none"]
    checkpoint_steps: Count | None
    checkpoint_minutes: Positive | None
    experiment: Text
    resource_interval: Positive
    download_timeout: Positive
    download_retries: Annotated[int, Field(ge=0)]
