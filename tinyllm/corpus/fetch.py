"""Bring one file over HTTP, whole and verified, or not at all."""

from pathlib import Path

import requests

from tinyllm.common.files import publish_file, sha256_of

TIMEOUT = 30.0  # seconds without a byte
PIECE = 1 << 20  # bytes


def fetch(url: str, path: Path, sha256: str | None) -> None:
    """Download `url` to `path`; nothing appears under that name until it is whole and verified.

    Args:
        sha256: what the file's digest must be, in hex; None: not checked.

    Raises:
        ValueError: it can't be had, is cut short, or is another file than `sha256` says.
    """
    with publish_file(path) as temporary:
        try:
            with requests.get(
                url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
            ) as response:
                response.raise_for_status()
                with temporary.open("wb") as file:
                    for piece in response.iter_content(PIECE):
                        file.write(piece)
        except requests.RequestException as error:
            raise ValueError(f"{url} could not be downloaded: {error}") from None
        announced = response.headers.get("Content-Length")
        size = temporary.stat().st_size
        if announced is not None and int(announced) != size:
            raise ValueError(f"{url} was cut short: {size} of {announced} bytes came")
        if sha256 is not None:
            check_sha256(temporary, sha256, url)


def check_sha256(path: Path, expected: str, name: str | None = None) -> None:
    """Compare a file with the SHA-256 it should have.

    Raises:
        ValueError: it has another.
    """
    actual = sha256_of(path)
    if actual != expected:
        raise ValueError(
            f"{name or path}: its SHA-256 is {actual}, not {expected} as download.sha256 says"
        )
