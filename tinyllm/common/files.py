"""Write files so that no reader ever sees a partial one, and verify what is read back.

Everything is written under a temporary name in the same directory, flushed to disk and renamed. The
next publication of the same path deletes what a killed process left under such a name. A folder of
data is sealed: its `checksums.json` holds the SHA-256 of every other file, and readers open those
files only through `checked`. Files that are no stage's output are in a folder of the project.
"""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyllm.common.errors import RunAgain
from tinyllm.common.os_processes import is_alive

CHECKSUMS = "checksums.json"
FORMER = "former."  # in the temporary name of a path being replaced
ROOT = "TINYLLM_ROOT"  # variable with the project's root; what starts the work sets it
STATE_FOLDER = ".tinyllm"  # checkpoints, journals, downloads: no stage's output


def project_root() -> Path:
    """Return the project's root, also if the work runs elsewhere; else the current folder."""
    return Path(os.environ.get(ROOT) or Path.cwd()).resolve()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_and_times(file: Path | str) -> str:
    """Return a text that changes when a file is written, touched, linked or moved.

    The second time (ctime) can't be set back; copying tools set back the first (mtime).
    """
    state = os.stat(file)  # noqa: PTH116 (for many files)
    return f"{state.st_size} bytes, changed at {state.st_mtime_ns} ns, {state.st_ctime_ns} ns"


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """Return a name beside `path` that no other process uses; nothing exists under it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        process = left.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        process = process.removeprefix(FORMER)
        if process.isdigit() and (int(process) == os.getpid() or not is_alive(int(process))):
            remove(left)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove(path: Path) -> None:
    """Remove a file, or a folder with all its files, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it becomes `path`, or is deleted if the block raises."""
    temporary = _temporary(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it becomes `path`, or is deleted if the block raises.

    An existing `path` is replaced.
    """
    temporary = _temporary(path)
    former = path.with_name(f".{path.name}.{FORMER}{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            sync(entry)
        sync(temporary)
        if path.exists():  # renamed first: no reader sees it half removed
            path.rename(former)
        temporary.rename(path)
        sync(path.parent)
    finally:
        remove(temporary)
        remove(former)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a folder for temporary files while `path` is made; it is deleted with the block."""
    temporary = _temporary(path.with_name(f"{path.name}.scratch"))
    temporary.mkdir()
    try:
        yield temporary
    finally:
        remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Publish a text file in UTF-8, with its line endings unchanged."""
    with publish_file(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Publish a JSON file: indented, keys in the given order, the same bytes every time."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunAgain(f"{path} is missing") from None
    except ValueError as error:
        raise RunAgain(f"{path} is corrupt ({error})") from None


def files_in(folder: Path) -> list[Path]:
    """Return every file in a folder and its subfolders, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def seal(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Record the SHA-256 of every file of a complete folder.

    Args:
        known: Digests by file name that were computed while the files were written.
    """
    files = [path for path in files_in(folder) if path != folder / CHECKSUMS]
    named = {path.relative_to(folder).as_posix(): path for path in files}
    known = known or {}
    sums = {name: known.get(name) or sha256_of(path) for name, path in named.items()}
    write_json(folder / CHECKSUMS, sums)


def checksums(folder: Path) -> dict[str, str]:
    """Return what `seal` recorded: file name to SHA-256.

    Raises:
        ValueError: `checksums.json` is missing or corrupt.
    """
    sums = read_json(folder / CHECKSUMS)
    if not isinstance(sums, dict):
        raise RunAgain(f"{folder / CHECKSUMS} is corrupt")
    return sums


def checked(folder: Path, name: str, sums: Mapping[str, str] | None = None) -> Path:
    """Return the path of a file of a sealed folder after comparing it with its SHA-256.

    Args:
        sums: The result of `checksums`; None reads it.

    Raises:
        ValueError: The file is missing or differs from the recorded digest.
    """
    path = folder / name
    if not path.is_file():
        raise RunAgain(f"{path} is missing")
    if (checksums(folder) if sums is None else sums).get(name) != sha256_of(path):
        raise RunAgain(f"{path} is corrupt: its SHA-256 is not the recorded one")
    return path
