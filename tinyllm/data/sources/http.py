"""A file over HTTP, from its beginning or from where a transfer broke off (RFC 9110, 13 and 14)."""

import email.utils
import http.client
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from tinyllm.data.sources.file_names import best_name
from tinyllm.data.sources.http_validators import Answer, Interrupted

SCHEMES = ("http", "https")
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 10
MAY_PASS = (408, 425, 429, 500, 502, 503, 504)  # states of a server that a later try may not meet
CHUNK = 1 << 21  # bytes at most
SLOWEST = 1000  # bytes per second, over a stall: less is as good as nothing


class _Session(requests.Session):
    """Leaves redirects alone: requests would read the body of each, however long it is."""

    def get_redirect_target(
        self,
        resp: requests.Response,  # noqa: ARG002 (requests names it)
    ) -> str | None:
        return None


@contextmanager
def open_web(url: str, offset: int, version: str | None, stall: float) -> Iterator[Answer]:
    """Ask for a file.

    Args:
        offset: bytes of it that are here already, of this version; the answer may begin at 0 all
            the same.
        stall: seconds without a byte, or with next to none, after which it is given up.

    Raises:
        Interrupted: it can't be had now.
        ValueError: it can't be had.
    """
    headers = {"Accept-Encoding": "identity"}
    if offset and version:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version}
    with _Session() as session:
        try:
            response = _follow(session, url, headers, stall)
        except requests.exceptions.SSLError as error:
            raise ValueError(f"{url} could not be downloaded: {_plain(error)}") from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Interrupted(_plain(error)) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ValueError(f"{url} could not be downloaded: {_plain(error)}") from None
        with response:
            start, total = _range(response, url, offset)
            found = _version(response)
            if start and found not in (None, version):
                raise Interrupted("the file has changed on the server", anew=True)
            name = best_name(url, response.headers.get("Content-Disposition"), response.url)
            yield Answer(start, total, found, name, _chunks(response, stall))


def _follow(
    session: requests.Session, url: str, headers: dict[str, str], stall: float
) -> requests.Response:
    """The answer at the end of all redirects, which stay on HTTP."""
    here = url
    for _ in range(MAX_REDIRECTS + 1):
        response = session.get(
            here, headers=headers, stream=True, timeout=stall, allow_redirects=False
        )
        target = response.headers.get("Location")
        if response.status_code not in REDIRECTS or target is None:
            return response
        response.close()
        here = urljoin(here, target)
        if urlsplit(here).scheme not in SCHEMES:
            raise ValueError(f"{url} leads to {here!r}, which is not on the web")
    raise ValueError(f"{url} leads from one address to the next, more than {MAX_REDIRECTS} times")


def _range(response: requests.Response, url: str, offset: int) -> tuple[int, int | None]:
    """Which bytes come: the first of them, and of how many; None: not told."""
    status, length = response.status_code, response.headers.get("Content-Length", "")
    if status == 200:
        packed = response.headers.get("Content-Encoding", "identity")
        if packed != "identity" and not url.endswith((".gz", ".zst")):
            raise ValueError(f"{url} is sent as {packed}, although it was asked for as it is")
        return 0, int(length) if length.isdecimal() else None
    if status == 206:
        sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not sent or int(sent[1]) != offset:
            raise Interrupted("the server sent another part of the file", anew=True)
        return offset, int(sent[2]) if sent[2].isdecimal() else None
    told = f"{status} {response.reason or ''}".strip()
    if status == 416:
        raise Interrupted(told, anew=True)
    if status in MAY_PASS:
        raise Interrupted(told, wait=_retry_after(response.headers.get("Retry-After", "")))
    raise ValueError(f"{url} could not be downloaded: {told}")


def _version(response: requests.Response) -> str | None:
    """A strong validator, the only kind that `If-Range` takes; else the date."""
    tag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if tag.startswith("W/") else tag


def _retry_after(value: str) -> float:
    """The seconds that a server asks for, as a number or a date."""
    if value.isdecimal():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:  # neither, or nothing
        return 0.0


def _chunks(response: requests.Response, stall: float) -> Iterator[bytes]:
    since, size = time.monotonic(), 0
    while True:
        try:
            chunk = response.raw.read1(CHUNK)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Interrupted(_plain(error)) from None
        if not chunk:
            return
        yield chunk
        size += len(chunk)
        if (elapsed := time.monotonic() - since) >= stall:
            if size < SLOWEST * elapsed:
                raise Interrupted(f"only {size:,} bytes came in {elapsed:.0f} s")
            since, size = time.monotonic(), 0


def _plain(error: BaseException) -> str:
    """What happened in the end; libraries wrap it in errors that name their objects."""
    inner = (*error.args, getattr(error, "reason", None), error.__cause__)
    for cause in inner:
        if isinstance(cause, BaseException):
            return _plain(cause)
    if isinstance(error, http.client.IncompleteRead):
        return "the server closed the connection early"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return re.sub(r"^\w*Connection\w*\(.*?\): ", "", text)
