"""Writing files so that nobody ever sees one half-written, and reading back what was written.

Everything is made under a temporary name in the same directory, flushed to disk and renamed; what a
killed process left under such a name goes when the same is published again. A folder of data is
sealed: `checksums.json` in it has the SHA-256 of every other file, and a reader opens none of them
but through `checked`. What is no stage's output lies in a folder of the project's own.
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
FORMER = "former."  # in the temporary name of what is being replaced
STATE_FOLDER = ".tinyllm"  # of what is no stage's output: checkpoints, journals, downloads


def project_root() -> Path:
    """The main repository, also from inside the temporary folder of a DVC experiment."""
    if root := os.environ.get("DVC_ROOT"):
        return Path(root).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_and_times(file: Path | str) -> str:
    """What differs once a file was written to, and also if it was only touched, linked or moved.

    The second time can't be set back, as the first one is by what keeps a file's time.
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
    """A name beside `path` that no other process takes; nothing is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        process = left.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        process = process.removeprefix(FORMER)
        if process.isdigit() and (int(process) == os.getpid() or not is_alive(int(process))):
            remove(left)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove(path: Path) -> None:
    """Remove a file, or a folder with all its files, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write; it becomes `path` if the block ends well, else vanishes."""
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
    """Give a temporary folder to fill; it becomes `path` if the block ends well, else vanishes.

    What stood under `path` is replaced.
    """
    temporary = _temporary(path)
    former = path.with_name(f".{path.name}.{FORMER}{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            sync(entry)
        sync(temporary)
        if path.exists():  # set aside at once, so that nobody sees it half removed
            path.rename(former)
        temporary.rename(path)
        sync(path.parent)
    finally:
        remove(temporary)
        remove(former)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Give a folder for what is needed while `path` is made; it vanishes with the block."""
    temporary = _temporary(path.with_name(f"{path.name}.scratch"))
    temporary.mkdir()
    try:
        yield temporary
    finally:
        remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Publish a text file: UTF-8, line ends as given."""
    with publish_file(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Publish a JSON file: indented, keys in the order given, the same bytes every time."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunAgain(f"{path} is missing") from None
    except ValueError as error:
        raise RunAgain(f"{path} is damaged ({error})") from None


def files_in(folder: Path) -> list[Path]:
    """Every file in a folder and in those below, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def seal(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Record the SHA-256 of every file of a folder that is complete.

    Args:
        known: those that were computed while the files were written, by name.
    """
    files = [path for path in files_in(folder) if path != folder / CHECKSUMS]
    named = {path.relative_to(folder).as_posix(): path for path in files}
    known = known or {}
    sums = {name: known.get(name) or sha256_of(path) for name, path in named.items()}
    write_json(folder / CHECKSUMS, sums)


def checksums(folder: Path) -> dict[str, str]:
    """What `seal` recorded: file name to SHA-256.

    Raises:
        ValueError: it is missing or damaged.
    """
    sums = read_json(folder / CHECKSUMS)
    if not isinstance(sums, dict):
        raise RunAgain(f"{folder / CHECKSUMS} is damaged")
    return sums


def checked(folder: Path, name: str, sums: Mapping[str, str] | None = None) -> Path:
    """The path of a file of a sealed folder, once it is found to be what was sealed.

    Args:
        sums: what `checksums` gives; None: read them.

    Raises:
        ValueError: it is not, or is missing.
    """
    path = folder / name
    if not path.is_file():
        raise RunAgain(f"{path} is missing")
    if (checksums(folder) if sums is None else sums).get(name) != sha256_of(path):
        raise RunAgain(f"{path} is damaged: its SHA-256 is not the recorded one")
    return path
