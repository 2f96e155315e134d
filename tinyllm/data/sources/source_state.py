"""Record the state of a corpus' source, to find out whether it changes during a run."""

import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tinyllm.common.files import sha256_of, size_and_times
from tinyllm.data.readers.raw_folder import FILES
from tinyllm.data.sources.catalogue import PACKAGES
from tinyllm.data.sources.docstrings import source_files
from tinyllm.settings.download import Download


def source_state(settings: Download) -> dict[str, str]:
    """Return files by size and times, and packages by version and content.

    In a folder, all files count whose change DVC would see, whether they are read or not. Missing
    files have no state; reading them raises an error of its own. Downloads are verified on arrival.
    """
    if settings.source == PACKAGES:
        return {package: _package(package.split("==")[0]) for package in settings.packages}
    if settings.source == "path":
        source = Path(settings.path)
        return dict(_states(_files(source) if source.is_dir() else [str(source)]))
    return {}


def is_as_copied(settings: Download, raw: Path, name: str) -> bool:
    """Return whether a file of `download.path` equals its copy in the raw folder.

    False without a copy: small files are packed, not copied.
    """
    file, source = Path(name), Path(settings.path)
    if settings.source != "path" or not file.is_file():
        return False
    copied = raw / FILES / (file.relative_to(source) if source.is_dir() else file.name)
    return copied.is_file() and sha256_of(copied) == sha256_of(file)


def _states(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    for file in files:
        try:
            state = size_and_times(file)
        except FileNotFoundError:  # for example a broken link
            continue
        yield file, state


def _files(folder: Path) -> Iterator[str]:
    """Yield all files except those of editors and desktops, which .dvcignore names."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if not name.startswith(".") and not name.endswith("~"):
                yield f"{parent}/{name}"  # 50,000 Path objects take twice the time


def _package(name: str) -> str:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    digest = hashlib.sha256()
    for file in source_files(name):
        state = sha256_of(file) if file.exists() else "missing"
        digest.update(f"{file}: {state}\n".encode(errors="surrogateescape"))
    return f"{version}, {digest.hexdigest()}"
