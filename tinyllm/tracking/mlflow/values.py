"""Names and values in the form that every one of MLflow's stores takes."""

import re
from typing import Any

# MLflow's limits, in characters.
PARAM_LENGTH, TAG_LENGTH, NAME_LENGTH, EXPERIMENT_LENGTH = 6000, 8000, 250, 500


def fit(value: Any, length: int) -> str:
    r"""A value as text that is valid UTF-8, not too long, and without NUL.

    Lone surrogates and NUL are written as Python writes them, "\udcff" and "\x00": PostgreSQL holds
    no NUL, and MLflow's server answers 500 for as long as one is sent.
    """
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\x00")[:length]


def fit_name(name: str) -> str:
    """A metric's, parameter's or tag's name of the characters that MLflow allows in it."""
    return re.sub(r"[^/\w.\- :]", "_", name)[:NAME_LENGTH]
