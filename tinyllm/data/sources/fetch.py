"""Download a file from an address: complete and verified, or not at all.

A partial file is kept in a folder of its own; a later call resumes it, also in another process. The
complete file stays there under its SHA-256, so that it is not downloaded again. The folder can be
deleted at any time.
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

from tinyllm.common.files import STATE_FOLDER, project_root, sha256_of, write_text
from tinyllm.data.sources.file_names import file_name
from tinyllm.data.sources.fsspec_files import open_remote
from tinyllm.data.sources.http import SCHEMES, open_web
from tinyllm.data.sources.http_validators import Answer, Interrupted
from tinyllm.data.sources.partial_file import Part
from tinyllm.settings.runtime import Runtime

NAME = "name.txt"  # the file that contains the name of the download
PROGRESS = 1 << 20  # bytes; a try that gets this much further than all others has not failed


@dataclass(frozen=True)
class Patience:
    """How long to retry. All values except `retries` are in seconds.

    Attributes:
        stall: A try fails after this long without a byte.
        retries: Failed tries in a row before giving up.
        backoff: Wait before the second try; doubled before each further one.
        longest: Longest wait before a try; if a server asks for more, the download fails.
    """

    stall: float = 30.0
    retries: int = 5
    backoff: float = 1.0
    longest: float = 120.0

    @classmethod
    def of(cls, runtime: Runtime) -> "Patience":
        """The patience that the settings ask for."""
        return cls(stall=runtime.download_timeout, retries=runtime.download_retries)


def downloads_folder() -> Path:
    """The folder of complete and partial downloads; it outlives the stages' outputs."""
    return project_root() / STATE_FOLDER / "downloads"


class Fetched(NamedTuple):
    """A downloaded file: its path (read only), its SHA-256, its name."""

    path: Path
    digest: str
    name: str


def fetch(
    url: str, downloads: Path, *, sha256: str | None, most: int, patience: Patience
) -> Fetched:
    """Download a file, unless it is already here.

    Args:
        downloads: Folder of partial and complete files.
        sha256: Required digest of the file in hex; None: any.
        most: Maximum size in bytes.

    Raises:
        ValueError: The file can't be downloaded, is too large, or has another SHA-256.
    """
    folder = downloads / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{file_name(url)}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # two experiments may download the same file
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (found := _whole(folder, sha256)) is not None:
            if (size := found.stat().st_size) > most:
                raise ValueError(_too_large(url, f"{size:,} bytes", most))
            return Fetched(found, found.name, _name(folder, url))
        part = Part(folder)
        _download(url, part, most, patience)
        digest = part.digest()
        if sha256 not in (None, digest):
            part.discard()
            raise ValueError(
                f"{url}: its SHA-256 is {digest}, not {sha256} as required; the file was deleted"
            )
        # Not flushed to disk: a file under that name is verified before each use.
        part.path.rename(folder / digest)
        part.discard()
        return Fetched(folder / digest, digest, _name(folder, url))


def _name(folder: Path, url: str) -> str:
    """Return the file name that the server sent."""
    try:
        return (folder / NAME).read_text(encoding="utf-8")
    except FileNotFoundError:  # downloaded by a version that did not store names
        return file_name(url)


def _whole(folder: Path, sha256: str | None) -> Path | None:
    """Return a file that was downloaded before, after verifying it."""
    found = None
    for path in sorted(folder.glob("?" * 64)):
        if sha256 in (None, path.name) and sha256_of(path) == path.name:
            found = path
        else:
            path.unlink()
    return found


def _download(url: str, part: Part, most: int, patience: Patience) -> None:
    """Try until all of a file is in `part`."""
    failures, furthest = 0, 0
    while True:
        try:
            _try(url, part, most, patience.stall)
            return
        except Interrupted as error:
            if error.from_scratch or part.version is None:
                part.discard()
            failures = 0 if part.size >= furthest + PROGRESS else failures + 1
            furthest = max(furthest, part.size)
            kept = f"; {part.size:,} bytes are kept for the next run" if part.size else ""
            if failures > patience.retries:
                raise ValueError(f"{url} could not be downloaded: {error}{kept}") from None
            if error.wait > patience.longest:
                raise ValueError(
                    f"{url} could not be downloaded: {error}; the server asks to retry in "
                    f"{error.wait:,.0f} s{kept}"
                ) from None
            wait = max(error.wait, patience.backoff * 2 ** max(failures - 1, 0))
            wait = min(wait, patience.longest)
            print(f"download: {error}; retrying in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)


def _try(url: str, part: Part, most: int, stall: float) -> None:
    """Download the missing part of a file.

    Raises:
        Interrupted: The transfer ended early.
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
                "for the next run"
            ) from None
    if total is not None and part.size != total:
        too_long = part.size > total
        raise Interrupted(f"{part.size:,} of {total:,} bytes arrived", from_scratch=too_long)


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
