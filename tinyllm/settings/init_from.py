"""`train.init_from`: the model whose weights training starts from."""

import re
import shlex
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from tinyllm.settings.section import Text

SCRATCH = "scratch"  # DVC depends on the file of this name


def _folder(value: str) -> str:
    if re.match(r"[A-Za-z][\w+.-]+:", value):  # longer than the letter of a drive
        raise ValueError(
            "must be a folder; copy the model first with `tinyllm fetch "
            f"{shlex.quote(value)} models/base`, then set it to models/base"
        )
    return value


InitFrom = Annotated[Text, AfterValidator(_folder)]


def base_model(init_from: str) -> Path | None:
    """The folder of the model that training starts from; None if it starts from random weights."""
    return None if init_from == SCRATCH else Path(init_from)
