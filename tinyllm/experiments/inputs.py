"""Files that the pipeline reads but no stage makes, and whether a clone of the repository has them.

A corpus may be in Git, tracked by DVC (`dvc add`), or neither: ignored by Git or outside the
project.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tinyllm.common import source_files
from tinyllm.experiments.repository import Git, GitError
from tinyllm.settings import strict_yaml

POINTER = ".dvc"  # suffix of the file by which DVC tracks another one


@dataclass(frozen=True)
class Input:
    """A file or folder that a stage has read.

    Attributes:
        path: as in dvc.lock; an absolute path if params.yaml has one.
        md5: DVC's hash; None if unknown.
        size: in bytes.
        files: number of files in a folder; None for a file.
    """

    path: str
    md5: str | None = None
    size: int = 0
    files: int | None = None

    def __str__(self) -> str:
        if self.md5 is None:
            return ""
        files = "" if self.files is None else f" in {self.files:,} file{'s' * (self.files != 1)}"
        return f"{self.size:,} bytes{files}, md5 {self.md5} by dvc.lock"


def read_inputs(lock: Path) -> list[Input]:
    """The inputs that dvc.lock lists, without the project's modules; empty if it can't be read."""
    try:
        return inputs_in(strict_yaml.load(lock.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


def inputs_in(lock: dict[str, Any]) -> list[Input]:
    """The same for the content of a dvc.lock; empty if it is not one."""
    try:
        stages = lock["stages"].values()
        made = [out["path"] for stage in stages for out in stage.get("outs", [])]
        return [
            each
            for stage in stages
            for each in _inputs(stage)
            if not is_in(each.path, [*made, *source_files.PACKAGES])
        ]
    except (LookupError, AttributeError, TypeError):
        return []


def _inputs(stage: dict[str, Any]) -> Iterator[Input]:
    settings = stage.get("params", {}).get("params.yaml", {})
    download = settings.get("download", {})
    source = os.path.abspath(download.get("path", os.devnull))  # noqa: PTH100 (follows no link)
    base = settings.get("train.init_from") or settings.get("train", {}).get("init_from", "")
    given = [download.get("path", ""), base]
    absolute = [path for path in given if Path(path).is_absolute()]
    for dep in stage.get("deps", []):
        path = dep["path"]
        there = os.path.abspath(path)  # noqa: PTH100
        if there == source and download.get("source", "path") != "path":
            continue  # DVC hashes it, but no stage reads it
        # In dvc.lock it is relative to the project.
        path = next((name for name in absolute if os.path.abspath(name) == there), path)  # noqa: PTH100
        yield Input(path, dep.get("md5"), dep.get("size", 0), dep.get("nfiles"))


def is_in(name: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of some folders, or inside one of them."""
    path = PurePosixPath(name)
    return any(PurePosixPath(folder) in (path, *path.parents) for folder in folders)


def places(folder: Path, revision: str, inputs: Iterable[Input]) -> dict[str, Input]:
    """Inputs by the location of their content, relative to `folder`; links are followed.

    Raises:
        GitError: a Git command fails.
    """
    entries = Git(folder)("ls-tree", "-r", "-z", revision).split(b"\0")
    links = [os.fsdecode(e.partition(b"\t")[2]) for e in entries if e.startswith(b"120000 ")]
    found = {}
    for each in inputs:
        if Path(each.path).is_absolute():  # it belongs to this machine; no link needs following
            found[each.path] = each
            continue
        for name in (each.path, *(link for link in links if is_in(link, [each.path]))):
            found[os.path.relpath((folder / name).resolve(), folder.resolve())] = each
    return found


def describe(name: str, read: Mapping[str, Input]) -> str:
    """Describe a file or folder that is one of some inputs or inside one: size and hash."""
    for place, each in read.items():
        if is_in(name, [place]) and each.md5:
            return str(each) if place == name else f"part of `{each.path}`: {each}"
    return ""


def md5_of(name: str, read: Mapping[str, Input]) -> str | None:
    """The hash of an input; None for a part of one, and if unknown."""
    return read[name].md5 if name in read else None


def pointer(folder: Path, revision: str, name: str, read: Mapping[str, Input]) -> str | None:
    """The .dvc file in Git that tracks an input as it was read, so that `dvc pull` downloads it."""
    path = PurePosixPath(name)
    md5 = md5_of(name, read)
    for tracked in (path, *path.parents[:-1]):
        file = f"{tracked}{POINTER}"
        try:
            Git(folder)("cat-file", "-e", f"{revision}:./{file}")
            listed = strict_yaml.load((folder / file).read_text(encoding="utf-8"))["outs"]
        except (GitError, OSError, ValueError, LookupError, TypeError):
            continue
        # A file inside a tracked folder has no hash to compare.
        if tracked != path or md5 in (None, *(out.get("md5") for out in listed)):
            return file
    return None
