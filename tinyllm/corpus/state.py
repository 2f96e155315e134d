"""What a corpus' source is at a moment, to see whether it changes while it is read."""

import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from tinyllm.common.files import size_and_time
from tinyllm.corpus.catalogue import PACKAGES
from tinyllm.corpus.docstrings import source_files
from tinyllm.settings.download import Download


def source_state(settings: Download) -> dict[str, str]:
    """Files by size and time, packages by version and files; what is fetched is verified as such.

    Of a folder, all files count that DVC would see a change of, whether they are read or not.
    What is missing has no state: that is an error of whoever reads it.
    """
    if settings.source == PACKAGES:
        return {package: _package(package.split("==")[0]) for package in settings.packages}
    if settings.source == "path":
        source = Path(settings.path)
        return dict(_states(_files(source) if source.is_dir() else [str(source)]))
    return {}


def _states(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    for file in files:
        with suppress(FileNotFoundError):  # as a link to nowhere is
            yield file, size_and_time(file)


def _files(folder: Path) -> Iterator[str]:
    """All files but those that editors and desktops leave, which .dvcignore names."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if not name.startswith(".") and not name.endswith("~"):
                yield f"{parent}/{name}"  # a Path for each of 50,000 takes twice the time


def _package(name: str) -> str:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    digest = hashlib.sha256()
    for file in source_files(name):
        state = size_and_time(file) if file.exists() else "missing"
        digest.update(f"{file}: {state}\n".encode(errors="surrogateescape"))
    return f"{version}, {digest.hexdigest()}"
