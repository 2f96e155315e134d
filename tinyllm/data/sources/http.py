"""Download a file over HTTP, from its beginning or resumed (RFC 9110, sections 13 and 14)."""

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
MAY_PASS = (408, 425, 429, 500, 502, 503, 504)  # server states that may be temporary
CHUNK = 1 << 21  # bytes, at most
SLOWEST = 1000  # bytes per second during a stall; less counts as nothing


class _Session(requests.Session):
    """Does not follow redirects: requests would read the body of each, however long it is."""

    def get_redirect_target(
        self,
        resp: requests.Response,  # noqa: ARG002 (the name is requests')
    ) -> str | None:
        return None


@contextmanager
def open_web(url: str, offset: int, version: str | None, stall: float) -> Iterator[Answer]:
    """Request a file.

    Args:
        offset: Bytes of this version that are already here; the answer may still begin at 0.
        stall: Seconds without a byte, or with almost none, before giving up.

    Raises:
        Interrupted: The file can't be downloaded now.
        ValueError: The file can't be downloaded.
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
                raise Interrupted("the file has changed on the server", from_scratch=True)
            name = best_name(url, response.headers.get("Content-Disposition"), response.url)
            yield Answer(start, total, found, name, _chunks(response, stall))


def _follow(
    session: requests.Session, url: str, headers: dict[str, str], stall: float
) -> requests.Response:
    """Return the answer after all redirects, which must stay on HTTP."""
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
            raise ValueError(f"{url} redirects to {here!r}, which is not an HTTP address")
    raise ValueError(f"{url} redirects more than {MAX_REDIRECTS} times")


def _range(response: requests.Response, url: str, offset: int) -> tuple[int, int | None]:
    """Return the offset of the first byte sent, and the total size; None: not stated."""
    status, length = response.status_code, response.headers.get("Content-Length", "")
    if status == 200:
        packed = response.headers.get("Content-Encoding", "identity")
        if packed != "identity" and not url.endswith((".gz", ".zst")):
            raise ValueError(
                f"{url} was sent as {packed}, although the request asked for no compression"
            )
        return 0, int(length) if length.isdecimal() else None
    if status == 206:
        sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not sent or int(sent[1]) != offset:
            raise Interrupted("the server sent another part of the file", from_scratch=True)
        return offset, int(sent[2]) if sent[2].isdecimal() else None
    answer = f"{status} {response.reason or ''}".strip()
    if status == 416:
        raise Interrupted(answer, from_scratch=True)
    if status in MAY_PASS:
        raise Interrupted(answer, wait=_retry_after(response.headers.get("Retry-After", "")))
    raise ValueError(f"{url} could not be downloaded: {answer}")


def _version(response: requests.Response) -> str | None:
    """Return a strong validator, which `If-Range` requires; otherwise the date."""
    tag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if tag.startswith("W/") else tag


def _retry_after(value: str) -> float:
    """Return the seconds that a server asks to wait, given as a number or a date."""
    if value.isdecimal():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:  # neither, or empty
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
                raise Interrupted(f"only {size:,} bytes arrived in {elapsed:.0f} s")
            since, size = time.monotonic(), 0


def _plain(error: BaseException) -> str:
    """Return the innermost reason; libraries wrap it in errors that name their objects."""
    inner = (*error.args, getattr(error, "reason", None), error.__cause__)
    for cause in inner:
        if isinstance(cause, BaseException):
            return _plain(cause)
    if isinstance(error, http.client.IncompleteRead):
        return "the server closed the connection early"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return re.sub(r"^\w*Connection\w*\(.*?\): ", "", text)
