"""The settings, code and files that a result is made from, each under its name."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tinyllm.common import source_files
from tinyllm.common.files import CHECKSUMS, checksums, files_in, sha256_of, size_and_times

Parts = dict[str, str]


@dataclass(frozen=True)
class Fingerprint:
    """Parts by name: "train.n_layer" to its value, ".../tokens.npy" to its hash."""

    parts: Parts

    @property
    def name(self) -> str:
        """Return a short name that is the same for the same parts."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: "Fingerprint") -> list[str]:
        """Return the names of the parts that differ, for messages; a sealed folder is one name."""
        names = sorted(self.parts.keys() | other.parts.keys())
        different = [name for name in names if self.parts.get(name) != other.parts.get(name)]
        sealed = {name.removesuffix(CHECKSUMS) for name in different if name.endswith(CHECKSUMS)}
        folders = (name[: name.rfind("/") + 1] for name in different)
        shown = zip(different, folders, strict=True)
        return list(dict.fromkeys(folder if folder in sealed else name for name, folder in shown))


def of_code(module: str) -> Parts:
    """Return the source files that decide what a module computes, by their content."""
    files = source_files.files_of(module)
    return {file.as_posix(): sha256_of(source_files.ROOT / file) for file in files}


def of_content(paths: Iterable[Path]) -> Parts:
    """Return files, or all files of folders, by their content."""
    return {file.as_posix(): sha256_of(file) for path in paths for file in _files(path)}


def of_state(paths: Iterable[Path]) -> Parts:
    """Return files, or all files of folders, without hashing gigabytes.

    Files of a sealed folder are identified by its checksums and by size and times; all other files
    by their content.
    """
    parts: Parts = {}
    for path in paths:
        if (path / CHECKSUMS).is_file():
            parts |= {file.as_posix(): size_and_times(file) for file in _files(path)}
            parts |= of_content([path / CHECKSUMS])
        else:
            parts |= of_content([path])
    return parts


def is_as_sealed(name: str) -> bool:
    """Return whether a file of a sealed folder has its recorded SHA-256, even if touched."""
    file = Path(name)
    sealed = next((p for p in file.parents if (p / CHECKSUMS).is_file()), None)
    if sealed is None or not file.is_file():
        return False
    return checksums(sealed).get(file.relative_to(sealed).as_posix()) == sha256_of(file)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return files_in(path)
    return [path] if path.exists() else []
