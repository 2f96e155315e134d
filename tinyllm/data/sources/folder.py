"""Find the files of a local corpus, and print a line about the files that are not read."""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tinyllm.data.readers.archives import Listing, is_archive, is_hidden, listing
from tinyllm.data.readers.compression import CHUNK, bounded, unpacked_name
from tinyllm.data.readers.layout import SUFFIXES, Layout
from tinyllm.data.sources.braces import expand
from tinyllm.data.sources.unread_files import printable, warn, warn_of_members

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


class Found(NamedTuple):
    """A file of a corpus, before it is in the raw folder.

    Attributes:
        name: Path inside the corpus, with slashes.
        path: Path on this machine. (50,000 Path objects take 0.15 s longer.)
        size: In bytes.
        digest: SHA-256; None: not known yet.
        members: Of an archive: the members to read; None: not an archive, or not known yet.
        origin: The address it was downloaded from; None: a local file.
        inside: Of an archive: its contents; None: not an archive, or not known yet.
    """

    name: str
    path: str
    size: int
    digest: str | None = None
    members: list[str] | None = None
    origin: str | None = None
    inside: Listing | None = None


def files_of(source: Path, layout: Layout, most: int) -> list[Found]:
    """Return the files to read, sorted by name; an archive is read if one of its members is.

    Links to folders, broken links and other irregular files (opening a named pipe would block) are
    skipped; a line on stderr names those whose names match.

    Args:
        most: Bytes that may be unpacked from an archive to find its members.

    Raises:
        ValueError: A folder can't be listed, or a name is not UTF-8, which a manifest requires.
    """
    wanted = wanted_by(layout)
    if not source.is_dir():
        return [Found(source.name, str(source), source.stat().st_size)]
    found, links, odd = [], [], []
    for name, entry in _walk(source, hidden=layout.files is not None):
        kind, size = _kind(entry)
        if kind == "a folder":
            if layout.files or not is_hidden(name):
                links.append(name)
        elif kind is not None:
            if wanted(name) or (is_archive(name) and not is_hidden(name)):
                odd.append(f"{printable(name)} ({kind})")
        elif is_archive(name):
            _check_name(name)
            inside = listing(Path(entry.path), name, bounded(most, name))
            if any(wanted(f"{name}/{m}") and not is_archive(m) for m in inside.files):
                found.append(Found(name, entry.path, size, inside=inside))
            else:
                warn_of_members(name, inside, [m for m in inside.others if wanted(f"{name}/{m}")])
        elif wanted(name):
            _check_name(name)
            found.append(Found(name, entry.path, size))
    warn(
        links,
        f"links to folders in {source} are not read",
        "; to read one, set download.path to its target, or copy it",
    )
    warn(odd, f"not read in {source}, because they are not files")
    return sorted(found)


def wanted_by(layout: Layout) -> Callable[[str], bool]:
    """Return a function that says by its name whether a file or archive member is to be read."""
    if layout.files is None:
        suffixes = tuple(SUFFIXES)
        return lambda name: unpacked_name(name).lower().endswith(suffixes) and not is_hidden(name)
    from fsspec.utils import glob_translate

    patterns = [glob_translate(one.removeprefix("./")) for one in expand(layout.files)]
    matches = re.compile("|".join(f"(?:{pattern})" for pattern in patterns)).match
    return lambda name: matches(name) is not None


def names_in(source: Path, most: int) -> list[str]:
    """Return the names of all files in a folder and its archives, except hidden ones."""
    found = []
    for name, entry in _walk(source, hidden=False):
        if is_archive(name) and _kind(entry)[0] is None:
            inside = listing(Path(entry.path), name, bounded(most, name))
            found += [f"{name}/{member}" for member in inside.files]
        elif not is_hidden(name):
            found.append(name)
    return found


def copy(path: str, target: Path) -> str:
    """Copy a file. Returns its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with Path(path).open("rb") as source, target.open("wb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


@contextmanager
def refusals_named(found: Sequence[Found]) -> Iterator[None]:
    """Turn an error about opening a file of a corpus into a single-line message.

    Raises:
        ValueError: The file was deleted after the folder was listed, or its permissions forbid it.
    """
    try:
        yield
    except OSError as error:
        if str(error.filename) not in {file.path for file in found}:
            raise
        name = printable(str(error.filename))
        if isinstance(error, FileNotFoundError):
            raise ValueError(f"{name} was deleted while the corpus was read; run again") from None
        raise ValueError(f"{name} can't be read: {error.strerror}") from None


def _walk(folder: Path, hidden: bool) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield everything except folders in a folder and its subfolders, with its name."""
    waiting = [("", str(folder))]
    while waiting:
        prefix, path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                listed = list(entries)
        except OSError as error:
            raise ValueError(
                f"download.path: the folder {printable(path)} can't be read: {error.strerror}"
            ) from None
        for entry in listed:
            name = prefix + entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield name, entry
            elif hidden or not is_hidden(entry.name):
                waiting.append((f"{name}/", entry.path))


def _kind(entry: "os.DirEntry[str]") -> tuple[str | None, int]:
    """Return what an entry of a folder is if it is not a file, and its size in bytes."""
    try:
        found = entry.stat()
    except FileNotFoundError:
        return "a broken link" if entry.is_symlink() else "deleted during the run", 0
    except OSError as error:  # for example a link to itself
        return error.strerror or type(error).__name__, 0
    if stat.S_ISREG(found.st_mode):
        return None, found.st_size
    if stat.S_ISDIR(found.st_mode):
        return "a folder", 0
    return _KINDS.get(stat.S_IFMT(found.st_mode), "a device"), 0


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", errors="backslashreplace")
        raise ValueError(f"{printable(shown)}: this file's name is not UTF-8; rename it") from None
