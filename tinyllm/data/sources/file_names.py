"""Name a downloaded file: its suffix decides how it is read."""

import re
from contextlib import suppress
from email.message import Message
from typing import Any
from urllib.parse import unquote, urlsplit

from tinyllm.data.readers.archives import is_archive
from tinyllm.data.readers.compression import PACKED
from tinyllm.data.readers.layout import SUFFIXES

LONGEST = 200  # characters


def file_name(url: str) -> str:
    """Return the name of the file at an address: the end of its path, without the query."""
    return _safe(unquote(urlsplit(url).path)) or "text.txt"


def best_name(url: str, disposition: str | None, target: str | None) -> str:
    """Return the best name for a file that a server sent.

    Args:
        disposition: The header Content-Disposition (RFC 6266), if any.
        target: The address that the server redirected to.

    Returns:
        The first name with a known suffix, of the header, the address and the target; if none has
        one, the first name.
    """
    names = [_safe(stated(disposition)), file_name(url), file_name(target) if target else ""]
    return next(filter(_says_how, names), next(filter(None, names)))


def stated(disposition: str | None) -> str:
    """Return the file name in a header Content-Disposition; empty: none."""
    if not disposition:
        return ""
    with suppress(UnicodeError):  # requests decodes headers as Latin-1; many servers send UTF-8
        disposition = disposition.encode("latin-1").decode("utf-8")
    message = Message()
    message["Content-Disposition"] = disposition
    try:
        given: Any = message.get_params([], header="content-disposition")
        values = [value for key, value in given if key.lower() == "filename"]
        for value in values:
            if isinstance(value, tuple):  # filename*, which has precedence over filename
                charset, _, data = value
                return str(data.encode("latin-1").decode(charset or "ascii"))
    except (LookupError, UnicodeError, TypeError, ValueError):  # an unreadable header
        return ""
    return str(values[0]) if values else ""


def _says_how(name: str) -> bool:
    lower = name.lower()
    return is_archive(lower) or lower.endswith((*SUFFIXES, *PACKED))


def _safe(name: str) -> str:
    """Return the last part of a path as a file name that is valid on any system."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w.+=@ -]", "_", last, flags=re.ASCII)[-LONGEST:].lstrip(".")
