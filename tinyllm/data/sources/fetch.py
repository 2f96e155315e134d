"""Bring a file from an address: whole and verified, or not at all.

What has come of a file waits in a folder of its own and is gone on with, also by another process
after this one was killed. The whole file stays there under its SHA-256, so that it is not fetched
again; the folder may be deleted at any time.
"""

import fcntl
import hashlib
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

from tinyllm.common.files import sha256_of, write_text
from tinyllm.data.sources.file_names import file_name
from tinyllm.data.sources.fsspec_files import open_remote
from tinyllm.data.sources.http import SCHEMES, open_web
from tinyllm.data.sources.http_validators import Answer, Interrupted
from tinyllm.data.sources.partial_file import Part

NAME = "name.txt"  # the file that holds a file's name
PROGRESS = 1 << 20  # bytes: a try that brings as many more than any before does not count as failed


@dataclass(frozen=True)
class Patience:
    """How long to try. All but `retries` in seconds.

    Attributes:
        stall: without a byte, after which a try has failed.
        retries: after so many failed tries in a row it is given up.
        backoff: before the second try; twice as long before each further one.
        longest: before any try; where a server asks for more, it is given up.
    """

    stall: float = 30.0
    retries: int = 5
    backoff: float = 1.0
    longest: float = 120.0


class Fetched(NamedTuple):
    """A file that is here: its path (not to be written to), its SHA-256, its name."""

    path: Path
    digest: str
    name: str


def fetch(
    url: str, downloads: Path, *, sha256: str | None, most: int, patience: Patience
) -> Fetched:
    """Download a file, unless it is here.

    Args:
        downloads: folder where parts and whole files lie.
        sha256: what the file's digest must be, in hex; None: whatever it is.
        most: bytes that it may have.

    Raises:
        ValueError: it can't be had, is too large, or is another file than `sha256` says.
    """
    folder = downloads / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{file_name(url)}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # two experiments may want the same file
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (found := _whole(folder, sha256)) is not None:
            if (size := found.stat().st_size) > most:
                raise ValueError(_too_large(url, f"{size:,} bytes", most))
            return Fetched(found, found.name, _name(folder, url))
        part = Part(folder)
        _bring(url, part, most, patience)
        digest = part.digest()
        if sha256 not in (None, digest):
            part.discard()
            raise ValueError(
                f"{url}: its SHA-256 is {digest}, not {sha256} as it should be; nothing is kept"
            )
        # It is not flushed to disk here: under that name, nobody takes it before it is read again.
        part.path.rename(folder / digest)
        part.discard()
        return Fetched(folder / digest, digest, _name(folder, url))


def _name(folder: Path, url: str) -> str:
    """The name that the file was sent with."""
    try:
        return (folder / NAME).read_text(encoding="utf-8")
    except FileNotFoundError:  # it came before names were kept
        return file_name(url)


def _whole(folder: Path, sha256: str | None) -> Path | None:
    """A file that was fetched before and is what it was then."""
    found = None
    for path in sorted(folder.glob("?" * 64)):
        if sha256 in (None, path.name) and sha256_of(path) == path.name:
            found = path
        else:
            path.unlink()
    return found


def _bring(url: str, part: Part, most: int, patience: Patience) -> None:
    """Try until all of a file is in `part`."""
    failures, furthest = 0, 0
    while True:
        try:
            _try(url, part, most, patience.stall)
            return
        except Interrupted as error:
            if error.anew or part.version is None:
                part.discard()
            failures = 0 if part.size >= furthest + PROGRESS else failures + 1
            furthest = max(furthest, part.size)
            kept = f"; {part.size:,} bytes are kept for the next time" if part.size else ""
            if failures > patience.retries:
                raise ValueError(f"{url} could not be downloaded: {error}{kept}") from None
            if error.wait > patience.longest:
                raise ValueError(
                    f"{url} could not be downloaded: {error}; the server asks to come back in "
                    f"{error.wait:,.0f} s{kept}"
                ) from None
            wait = max(error.wait, patience.backoff * 2 ** max(failures - 1, 0))
            wait = min(wait, patience.longest)
            print(f"download: {error}; trying again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)


def _try(url: str, part: Part, most: int, stall: float) -> None:
    """Get what is still missing of a file.

    Raises:
        Interrupted: that was not all of it.
    """
    if part.size and part.size == part.total:
        return
    opened = open_web if urlsplit(url).scheme in SCHEMES else open_remote
    with opened(url, part.size, part.version, stall) as answer:
        total = answer.total
        if (total or 0) > most:
            raise ValueError(_too_large(url, f"{total:,} bytes", most))
        if answer.start == 0:
            part.begin(answer.version, total)
            write_text(part.path.parent / NAME, answer.name)
        if shutil.disk_usage(part.path.parent).free < (total or 0) - part.size:
            raise ValueError(f"{url}: its {total:,} bytes do not fit on the disk")
        try:
            _append(answer, part, most, url)
        except OSError as error:
            raise ValueError(
                f"{url} could not be written: {error.strerror}; {part.size:,} bytes are kept "
                "for the next time"
            ) from None
    if total is not None and part.size != total:
        anew = part.size > total
        raise Interrupted(f"{part.size:,} of {total:,} bytes came", anew=anew)


def _append(answer: Answer, part: Part, most: int, url: str) -> None:
    bar = tqdm(
        desc=file_name(url), total=answer.total, initial=part.size, unit="B", unit_scale=True,
        disable=None, leave=False,
    )  # fmt: skip
    with bar, part.appending() as append:
        for chunk in answer.chunks:
            if part.size + len(chunk) > most:
                raise ValueError(_too_large(url, "more", most))
            append(chunk)
            bar.update(len(chunk))


def _too_large(url: str, what: str, most: int) -> str:
    return f"{url} has {what}, and download.max_bytes allows {most:,} in all"
