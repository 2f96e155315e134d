"""What a downloaded file is called: its suffix decides how it is read."""

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
    """The name of the file at an address: the end of its path, without the query."""
    return _safe(unquote(urlsplit(url).path)) or "text.txt"


def best_name(url: str, disposition: str | None, target: str | None) -> str:
    """The name of a file that was sent.

    Args:
        disposition: the header Content-Disposition (RFC 6266), if there was one.
        target: the address that the server redirected to.

    Returns:
        the first name that says how to read the file: of the header, the address, the target; if
        none does, the first that there is.
    """
    names = [_safe(stated(disposition)), file_name(url), file_name(target) if target else ""]
    return next(filter(_says_how, names), next(filter(None, names)))


def stated(disposition: str | None) -> str:
    """The file name in a header Content-Disposition; empty: none."""
    if not disposition:
        return ""
    with suppress(UnicodeError):  # requests takes headers for Latin-1; many servers send UTF-8
        disposition = disposition.encode("latin-1").decode("utf-8")
    message = Message()
    message["Content-Disposition"] = disposition
    try:
        given: Any = message.get_params([], header="content-disposition")
        values = [value for key, value in given if key.lower() == "filename"]
        for value in values:
            if isinstance(value, tuple):  # filename*, which goes before filename
                charset, _, data = value
                return str(data.encode("latin-1").decode(charset or "ascii"))
    except (LookupError, UnicodeError, TypeError, ValueError):  # no header that anybody can read
        return ""
    return str(values[0]) if values else ""


def _says_how(name: str) -> bool:
    lower = name.lower()
    return is_archive(lower) or lower.endswith((*SUFFIXES, *PACKED))


def _safe(name: str) -> str:
    """The last part of a path as the name of a file on any system."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w.+=@ -]", "_", last, flags=re.ASCII)[-LONGEST:].lstrip(".")
