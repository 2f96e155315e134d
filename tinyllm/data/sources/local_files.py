"""Read a corpus on this machine: a file, or a folder of files."""

import re
import shutil
from pathlib import Path

from tinyllm.common.files import sha256_of
from tinyllm.data.readers.layout import Layout
from tinyllm.data.sources.folder import Found, copy, files_of, names_in
from tinyllm.data.sources.intake import Keep
from tinyllm.data.sources.unread_files import nothing_to_read
from tinyllm.settings.download import Download


def from_path(settings: Download, layout: Layout, files: Path) -> tuple[list[Found], Keep]:
    """Return the files of `download.path`, and a function that copies one to the raw folder.

    Raises:
        ValueError: There are none, they can't be read, or they do not fit on the disk.
    """
    source = Path(settings.path)
    found = files_at(settings, layout, files)
    size = sum(file.size for file in found)
    if (free := shutil.disk_usage(files).free) < size:
        raise ValueError(
            f"{_key(settings)}: its {size:,} bytes are copied, and the disk of "
            f"{files.parent.parent} has {free:,} left"
        )
    if settings.sha256 is not None and (digest := sha256_of(source)) != settings.sha256[0]:
        raise ValueError(
            f"{source}: its SHA-256 is {digest}, not {settings.sha256[0]} as download.sha256 says"
        )
    return found, lambda file: copy(file.path, files / file.name)


def files_at(settings: Download, layout: Layout, files: Path) -> list[Found]:
    """Return the files of `download.path`.

    Args:
        files: Folder to copy them to, which need not exist yet.

    Raises:
        ValueError: There are none, or they can't be listed.
    """
    source, key = Path(settings.path), _key(settings)
    _check_path(settings, source, key, files)
    found = files_of(source, layout, settings.max_bytes)
    if not found:
        raise ValueError(f"{key}: {nothing_to_read(names_in(source, settings.max_bytes), layout)}")
    return found


def _key(settings: Download) -> str:
    return f"download.path = {settings.path!r}"


def _check_path(settings: Download, source: Path, key: str, files: Path) -> None:
    if not source.exists():
        hint = ""
        if re.search(r"[*?[]", settings.path):
            hint = "; the pattern of a folder's files goes into download.files"
        elif settings.path.startswith("~"):
            hint = "; write the whole path: ~ is not expanded"
        raise ValueError(f"{key}: the file or folder does not exist{hint}")
    if not source.is_file() and not source.is_dir():
        raise ValueError(f"{key}: is neither a file nor a folder")
    if settings.sha256 is not None and not source.is_file():
        raise ValueError("download.sha256: can be set for a single file only, not for a folder")
    if files.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"{key}: the folder contains {files.parent.parent}, where the corpus is written; set "
            "it to a folder with nothing but the text"
        )
