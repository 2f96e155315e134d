"""The settings of the hardware that `train` and `evaluate` run on."""

from typing import Annotated, Literal

from pydantic import Field

from tinyllm.settings.section import Count, Section


class Hardware(Section):
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    compile: Literal["auto", True, False]
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    processes: Count | None
    nodes: Count
    sharding: Literal["none", "full"]
    resume: Literal["exact", "any"]
