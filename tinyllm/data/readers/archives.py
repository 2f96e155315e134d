"""Read the files in a zip or tar archive. No file is ever written under a member's name."""

import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

from tinyllm.data.readers.compression import (
    CHUNK,
    PACKED,
    Counted,
    Forward,
    Spend,
    damage_named,
    packing_of,
    spend_freely,
    unpacked,
)
from tinyllm.data.readers.evidence import instead

ZIP = ".zip"
TAR = tuple(
    f"{suffix}{packing}"
    for suffix in (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst")
    for packing in ("", *PACKED)
)
ARCHIVES = (ZIP, *TAR)
ENCRYPTED = 1  # the bit of a zip entry's flags
# On Windows, a name that begins with ..\\ leads outside; it is refused, not skipped.
_HIDDEN = re.compile(r"(?:^|/)(?:\.(?!\.(?:[/\\]|\Z))|__MACOSX)")
LONGEST_HEADER = 1 << 20  # bytes of a tar header's names and attributes, read at once


def is_archive(name: str) -> bool:
    """Return whether a file is an archive, by its name."""
    return name.lower().endswith(ARCHIVES)


def _is_tar(name: str) -> bool:
    return name.lower().endswith(TAR)


def is_hidden(name: str) -> bool:
    """Return whether desktops hide a file or a folder that contains it."""
    return _HIDDEN.search(name) is not None


class Listing(NamedTuple):
    """The contents of an archive, without what desktops hide.

    Attributes:
        files: The names of its files; a name that several members have occurs several times.
        others: Members that can't be read as files, and what each is.
    """

    files: list[str]
    others: dict[str, str]


def listing(path: Path, name: str, spend: Spend = spend_freely) -> Listing:
    """List an archive without checking the names (see `check_names`).

    The files of a zip archive are sorted. The files of a tar archive are in its order; the hard
    links follow, in the order of their targets.

    Raises:
        ValueError: The archive is corrupt.
    """
    if _is_tar(name):
        found = _tar_listing(path, name, spend)
    else:
        with _open_zip(path, name) as archive:
            entries = _files_of_zip(archive)
        links = {entry.filename: "a link" for entry in entries if _is_link(entry)}
        files = sorted(entry.filename for entry in entries if not _is_link(entry))
        found = Listing(files, links)
    return Listing(
        [member for member in found.files if not is_hidden(member)],
        {member: kind for member, kind in found.others.items() if not is_hidden(member)},
    )


def check_names(members: Iterable[str], name: str) -> None:
    """Raise ValueError if the name of a member to read leads outside the archive."""
    for member in members:
        parts = re.split(r"[/\\]", member)
        if ".." in parts or parts[0] == "" or parts[0].endswith(":"):
            raise ValueError(
                f"{name} contains {member!r}, a name outside the archive; rename it, or choose "
                "other members with download.files"
            )


def member_streams(
    path: Path, name: str, members: Sequence[str], spend: Spend = spend_freely
) -> Iterator[tuple[str, IO[bytes]]]:
    """Open the named members of an archive one after the other; see `listing`."""
    if _is_tar(name):
        yield from _tar_members(path, name, members, spend)
        return
    with _open_zip(path, name) as archive:
        by_name: dict[str, list[zipfile.ZipInfo]] = {}
        for entry in _files_of_zip(archive):
            if not _is_link(entry):
                by_name.setdefault(entry.filename, []).append(entry)
        for member in members:
            entry = by_name[member].pop(0)
            if entry.flag_bits & ENCRYPTED:
                raise ValueError(
                    f"{name}/{member} is encrypted; unpack it first, with its password"
                )
            with damage_named(f"{name}/{member}"):
                inner = archive.open(entry)
            with inner:
                yield member, inner


def _check_head(head: bytes, name: str, wanted: str) -> None:
    """Raise ValueError if the file is evidently not an archive."""
    if (kind := instead(head)) and kind.what != wanted:
        raise ValueError(f"{name} is not {wanted}: {kind}")


# ----- zip


@contextmanager
def _open_zip(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        # A corrupt directory makes zipfile raise errors of all these types.
        except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, OverflowError) as error:
            file.seek(0)
            _check_head(file.peek(512), name, "a zip archive")
            raise ValueError(f"{name} is corrupt: {error}") from None
        with archive:
            yield archive


def _files_of_zip(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return all entries except folders. (`ZipInfo.is_dir` fails for an empty name.)"""
    return [entry for entry in archive.infolist() if not entry.filename.endswith("/")]


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


# ----- tar


class _TarInfo(tarfile.TarInfo):
    """A member's header, checked more strictly than tarfile does."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_TarInfo":
        """Read the next header. A corrupt one raises; in tarfile it ends the archive."""
        at = tarfile_.offset
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(f"{error} at offset {at:,}") from None

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        """Check the size before tarfile processes the header; subclasses may override this."""
        if self.size < 0:
            raise tarfile.ReadError("a member has a negative size")
        if self.size > LONGEST_HEADER and self.type in b"xgXLK" and self.type != tarfile.REGTYPE:
            raise tarfile.ReadError(f"a header has {self.size:,} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc]


def _tar_listing(path: Path, name: str, spend: Spend) -> Listing:
    files: list[str] = []
    links: list[tuple[int, str]] = []
    others: dict[str, str] = {}
    order: dict[str, int] = {}
    for member, info, _ in _tar(path, name, spend):
        if (kind := _other_kind(info)) is not None:
            others[member] = kind
        elif not info.islnk():
            order.setdefault(member, len(files))
            files.append(member)
        elif (target := _plain_name(info.linkname)) in order:
            links.append((order[target], member))
        else:
            others[member] = "a broken link"
    return Listing([*files, *(member for _, member in sorted(links, key=itemgetter(0)))], others)


def _tar_members(
    path: Path, name: str, members: Sequence[str], spend: Spend
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the wanted files, then the hard links, whose content is further up in the archive."""
    wanted = Counter(members)
    links: dict[str, list[str]] = {}
    for member, info, stream in _tar(path, name, spend):
        if not wanted[member] or _other_kind(info) is not None:
            continue
        if info.islnk():
            links.setdefault(_plain_name(info.linkname), []).append(member)
            continue
        wanted[member] -= 1
        assert stream is not None
        yield member, stream
    if not links:
        return
    for member, info, stream in _tar(path, name, spend_freely):  # `_tar_listing` checked the bound
        if stream is None or info.islnk() or member not in links:
            continue
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy, CHUNK)
            for link in links.pop(member):
                copy.seek(0)
                yield link, copy


def _other_kind(info: tarfile.TarInfo) -> str | None:
    """Return the kind of a member that is neither a file nor a hard link to one."""
    if info.issym():
        return "a link"
    if info.isfifo():
        return "a named pipe"
    if info.isdev():
        return "a device"
    if info.issparse():
        return "a sparse file"
    return None if info.isreg() or info.islnk() else "not a file"


def _plain_name(name: str) -> str:
    """Return a member's name without a leading ./, which `tar -c .` adds to each."""
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.sub(r"^(\./+)+", "", shown)


def _tar(
    path: Path, name: str, spend: Spend
) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes] | None]]:
    """Yield each member of a tar archive except folders, in order: name, header, content.

    The compression is detected by the archive's content.
    """
    with path.open("rb") as file:
        packing = packing_of(head := file.peek(512))
        if not packing:
            _check_head(head, name, "a tar archive")
        stream: Any = Forward(unpacked(file, name, packing), name, spend)
        with damage_named(name):
            archive = tarfile.TarFile(fileobj=stream, tarinfo=_TarInfo)
        while (info := _next(archive, name)) is not None:
            if info.isdir():
                continue
            inner = archive.extractfile(info) if info.isreg() else None
            content = None if inner is None else Counted(inner)
            yield _plain_name(info.name), info, content  # type: ignore[misc]
        with damage_named(name):
            while block := stream.read(CHUNK):
                if block.strip(b"\0"):
                    raise tarfile.ReadError("data follow its end")


def _next(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo | None:
    with damage_named(name):
        member = archive.next()
    archive.members = []  # type: ignore[attr-defined]  # tarfile would keep all of them
    return member
