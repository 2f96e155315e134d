"""Names and values in a form that all of MLflow's stores accept."""

import re
from typing import Any

# MLflow's limits, in characters.
PARAM_LENGTH, TAG_LENGTH, NAME_LENGTH, EXPERIMENT_LENGTH = 6000, 8000, 250, 500


def fit(value: Any, length: int) -> str:
    r"""Convert a value to valid UTF-8 text of limited length without NUL.

    Lone surrogates and NUL are escaped as in Python, "\udcff" and "\x00": PostgreSQL can't store
    NUL, and MLflow's server answers each such request with 500.
    """
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\x00")[:length]


def fit_name(name: str) -> str:
    """The name of a metric, parameter or tag, with only the characters that MLflow allows."""
    return re.sub(r"[^/\w.\- :]", "_", name)[:NAME_LENGTH]
