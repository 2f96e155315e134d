"""Takes passwords out of what is printed or kept."""

import os
from typing import Any
from urllib.parse import unquote

from tinyllm.common.addresses import MASK, without_passwords

SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")  # variables
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_BACKEND_STORE_URI")
SHORTEST = 8  # characters of a secret that is looked for wherever it stands, if it is no plain word


def masked(text: str) -> str:
    """The text without the passwords and tokens of the addresses in it, and of the environment's.

    >>> masked("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    for secret in _of_environment():
        text = text.replace(secret, MASK)
    return without_passwords(text)


def without_secrets(content: Any) -> Any:
    """The same, with passwords masked in every text of it."""
    if isinstance(content, dict):
        return {key: without_secrets(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_secrets(value) for value in content]
    return masked(content) if isinstance(content, str) else content


def _of_environment() -> list[str]:
    """Secrets that this process was given, the longest first, as they are and unescaped."""
    found = [os.environ.get(name, "") for name in SECRETS]
    for name in ADDRESSES:
        _, _, rest = os.environ.get(name, "").partition("://")
        login, at, _ = rest.rpartition("@")
        found.append(login.partition(":")[2] if at else "")
    found += [unquote(secret) for secret in found]
    return sorted(
        {s for s in found if len(s) >= SHORTEST and not s.isalpha()}, key=len, reverse=True
    )
