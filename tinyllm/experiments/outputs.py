"""Verifying the outputs of DVC's stages and its cache byte by byte.

DVC does not read them: it considers a file unchanged if its time and size are (a bit that flips on
the disk changes neither), and an object of its cache intact if it is read-only.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.common.files import CHECKSUMS, checksums, files_in, project_root
from tinyllm.common.units import megabytes

if TYPE_CHECKING:
    from dvc.repo import Repo

CHUNK = 1 << 22  # bytes
OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")  # the name of a file in the cache
REMAKE = "`dvc pull` downloads it, or `dvc repro` makes it"


@dataclass
class Group:
    """Files that were read together, with a line per fault: which file, and how to repair it."""

    name: str
    files: int = 0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        count = f"{self.files:,} file{'' if self.files == 1 else 's'}"
        return f"{self.name:<34} {count:>14} {megabytes(self.bytes):>12}  intact"


@dataclass(frozen=True)
class Output:
    """An output as recorded in dvc.lock.

    Attributes:
        digest: MD5; for a folder that of its listing, followed by ".dir".
        size: in bytes.
        cached: whether DVC keeps a copy.
        ignored: files in it that DVC ignores.
    """

    path: Path
    digest: str
    size: int
    cached: bool
    ignored: frozenset[Path]

    @property
    def name(self) -> str:
        return os.path.relpath(self.path)

    @property
    def is_folder(self) -> bool:
        return self.digest.endswith(".dir")

    def files(self) -> dict[str, Path]:
        """The files of a folder by name; a single file has an empty name."""
        if not self.is_folder:
            return {"": self.path} if self.path.is_file() else {}
        found = [path for path in files_in(self.path) if path not in self.ignored]
        return {path.relative_to(self.path).as_posix(): path for path in found}

    def digest_of(self, found: dict[str, str]) -> str | None:
        """The MD5 that DVC gives an output with these files: for a folder, of its JSON listing."""
        if not self.is_folder:
            return found.get("")
        entries = [{"md5": md5, "relpath": name} for name, md5 in sorted(found.items())]
        return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + ".dir"

    def repair(self, copied: bool, delete: str = "it") -> str:
        """How to restore a file; you have to delete one that DVC considers unchanged.

        Args:
            copied: whether DVC has an intact copy.
            delete: what to delete; empty if the file is missing.
        """
        if copied:
            first = f"delete {delete}, then " if delete else ""
            return f"{first}`dvc checkout --force {self.name}`"
        kept = f"`git checkout -- {self.name}` restores it, or `dvc repro` makes it"
        return (f"delete {delete}: " if delete else "") + (REMAKE if self.cached else kept)


def open_repo() -> "Repo":
    """Open the project with DVC.

    Raises:
        ValueError: this is not a DVC project, or dvc.yaml or dvc.lock can't be read.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(project_root()))
        list(repo.index.outs)
    except DvcException as error:
        raise ValueError(" ".join(str(error).split())) from None
    return repo


def outputs_of(repo: "Repo", stages: tuple[str, ...] = ()) -> Iterator[Output]:
    """The outputs in dvc.lock of some stages, or of all."""
    for out in repo.index.outs:
        made, path = out.hash_info, Path(out.fs_path)
        if made and made.name == "md5" and (not stages or out.stage.name in stages):
            ignored = (file for file in files_in(path) if repo.dvcignore.is_ignored_file(str(file)))
            size = (out.meta and out.meta.size) or 0
            yield Output(path, made.value, size, bool(out.use_cache), frozenset(ignored))


def read(
    path: Path, group: Group, bar: Any, kinds: tuple[str, ...] = ("md5", "sha256")
) -> dict[str, str]:
    """Compute several hashes of a file while reading it once."""
    sums = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in sums.values():
                digest.update(chunk)
            group.bytes += len(chunk)
            bar.update(len(chunk))
    group.files += 1
    return {name: digest.hexdigest() for name, digest in sums.items()}


class Cache:
    """DVC's cache; reads each object once.

    Attributes:
        group: the objects that were read.
        faults: a line for each corrupt object, by digest.
    """

    def __init__(self, repo: "Repo", bar: Any) -> None:
        self.odb, self.bar = repo.cache.local, bar
        self.group = Group("DVC's cache")
        self.faults: dict[str, str] = {}
        self._sound: dict[str, bool] = {}

    def objects(self) -> Iterator[tuple[str, Path]]:
        """The digest and path of every object, of any output."""
        for folder in Path(self.odb.path).glob("[0-9a-f]" * 2):
            for path in folder.iterdir():
                if OBJECT.fullmatch(path.name):  # others are unfinished files of DVC
                    yield folder.name + path.name, path

    def size(self) -> int:
        """Size of all objects in bytes."""
        sizes = 0
        for _, path in self.objects():
            with suppress(FileNotFoundError):  # removed by `dvc gc`
                sizes += path.stat().st_size
        return sizes

    def path(self, digest: str) -> Path:
        return Path(self.odb.oid_to_path(digest))

    def is_sound(self, digest: str) -> bool:
        """Whether an object exists and its content matches its name."""
        if digest not in self._sound:
            path = self.path(digest)
            found = path.exists() and read(path, self.group, self.bar, ("md5",))["md5"]
            self._sound[digest] = found == digest.removesuffix(".dir")
        return self._sound[digest]

    def listing(self, out: Output) -> dict[str, str] | None:
        """The MD5s of the files that an output should have; None if the listing is not here."""
        if not out.is_folder:
            return {"": out.digest}
        if not self.is_sound(out.digest):
            return None
        entries = json.loads(self.path(out.digest).read_bytes())
        return {entry["relpath"]: entry["md5"] for entry in entries}

    def check(self, out: Output, listed: dict[str, str], whole: bool) -> None:
        """Read the copy of an output whose files are listed; `whole`: the output is intact."""
        then, repair = (", then", f"`dvc commit --force {out.name}`") if whole else (":", REMAKE)
        for name, digest in {"": out.digest, **listed}.items():
            if not self.is_sound(digest):
                path, file = map(os.path.relpath, (self.path(digest), out.path / name))
                there = self.path(digest).exists()
                what = "is not what its name says" if there else "is missing"
                first = f"delete it{then} " if there else ""
                line = f"{path} {what} (DVC's copy of {file}); {first}{repair}"
                self.faults.setdefault(digest, line)

    def check_others(self) -> None:
        """Read the other objects: copies of other versions and experiments."""
        for digest, path in self.objects():
            if not self.is_sound(digest) and path.exists():
                line = (
                    f"{os.path.relpath(path)} is not what its name says (of a version or "
                    f"experiment other than dvc.lock's); delete it: in that version {REMAKE}"
                )
                self.faults.setdefault(digest, line)


def check(out: Output, cache: Cache, bar: Any) -> Group:
    """Read an output and DVC's copy of it; the copy's faults go to `cache.faults`."""
    group = Group(out.name)
    sums = {name: read(path, group, bar) for name, path in out.files().items()}
    found = {name: both["md5"] for name, both in sums.items()}
    whole = out.digest_of(found) == out.digest
    listed = found if whole else cache.listing(out)
    if not out.path.exists():
        copied = listed is not None and all(map(cache.is_sound, listed.values()))
        group.faults = [f"{out.name} is missing; {out.repair(copied, delete='')}"]
    else:
        group.faults = _compare(out, found, listed or found, cache) or _compare_sealed(out, sums)
        if not (whole or group.faults):
            group.faults = [f"{out.name} is not what dvc.lock records; {out.repair(False)}"]
    if out.cached:
        cache.check(out, listed or {}, whole)
    return group


def _compare(out: Output, found: dict[str, str], listed: dict[str, str], cache: Cache) -> list[str]:
    """The faults of an output's files, given the MD5s that were found and those that should be."""
    faults = []
    for name in sorted(found.keys() | listed.keys()):
        if found.get(name) != listed.get(name):
            what = "is not what dvc.lock records" if name in found else "is missing"
            copied = out.cached and (name not in listed or cache.is_sound(listed[name]))
            repair = out.repair(copied, delete="it" if name in found else "")
            faults.append(f"{os.path.relpath(out.path / name)} {what}; {repair}")
    return faults


def _compare_sealed(out: Output, sums: dict[str, dict[str, str]]) -> list[str]:
    """The faults of a sealed folder, by its own checksums."""
    if CHECKSUMS not in sums:
        return []
    try:
        sealed = checksums(out.path)
    except ValueError as error:
        return [str(error)]
    faults = []
    for name in sorted({*sealed, *sums} - {CHECKSUMS}):
        if sums.get(name, {}).get("sha256") != sealed.get(name):
            # DVC considers a folder complete that lacked a file when it was recorded.
            delete, what = out.name, "is missing"
            if name in sums:
                delete, what = "it", f"is not what {CHECKSUMS} records"
            repair = out.repair(copied=False, delete=delete)
            faults.append(f"{os.path.relpath(out.path / name)} {what}; {repair}")
    return faults
