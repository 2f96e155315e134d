"""Masks passwords in text that is printed or stored."""

import os
from typing import Any
from urllib.parse import unquote

from tinyllm.common.addresses import MASK, without_passwords

SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")  # environment variables
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_BACKEND_STORE_URI")
SHORTEST = 8  # characters of a secret that is masked everywhere; a shorter or plain word is not


def masked(text: str) -> str:
    """Mask the passwords and tokens of addresses in a text, and those of the environment.

    >>> masked("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    for secret in _of_environment():
        text = text.replace(secret, MASK)
    return without_passwords(text)


def without_secrets(content: Any) -> Any:
    """The same content with passwords masked in every string."""
    if isinstance(content, dict):
        return {key: without_secrets(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_secrets(value) for value in content]
    return masked(content) if isinstance(content, str) else content


def _of_environment() -> list[str]:
    """Secrets in this process's environment, longest first, escaped as given and unescaped."""
    found = [os.environ.get(name, "") for name in SECRETS]
    for name in ADDRESSES:
        _, _, rest = os.environ.get(name, "").partition("://")
        login, at, _ = rest.rpartition("@")
        found.append(login.partition(":")[2] if at else "")
    found += [unquote(secret) for secret in found]
    return sorted(
        {s for s in found if len(s) >= SHORTEST and not s.isalpha()}, key=len, reverse=True
    )
