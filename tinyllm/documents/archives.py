"""Read the files in a zip or tar archive. No file is ever written under a member's name."""

import re
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tinyllm.documents.evidence import instead
from tinyllm.documents.packing import (
    CHUNK,
    Counted,
    Spend,
    chunks,
    damage_named,
    packing_of,
    spend_freely,
    unpacked,
    unpacked_name,
)

ZIP = ".zip"
TAR = (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst")
TAR_BUFFER = 1 << 15  # bytes: tarfile copies what is left of it at each read, of a header even
LONGEST_HEADER = 1 << 20  # bytes of a tar header's names and attributes, which are read at once


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name."""
    return name.lower().endswith(ZIP) or _is_tar(name)


def _is_tar(name: str) -> bool:
    return unpacked_name(name).lower().endswith(TAR)


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it lies in, is one that desktops hide."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def member_names(path: Path, name: str, spend: Spend = spend_freely) -> list[str]:
    """The files in an archive, without those that desktops add.

    Of a zip archive they are sorted, of a tar archive in its order. A name that several have is
    there several times.

    Raises:
        ValueError: it is corrupt, or a member is a link or has a name outside of the archive.
    """
    if _is_tar(name):
        found = [member for member, _ in _tar(path, name, spend)]
    else:
        with _open_zip(path, name) as archive:
            found = sorted(entry.filename for entry in _entries(archive, name))
    return [member for member in found if not is_hidden(member)]


def member_streams(
    path: Path, name: str, members: Sequence[str], spend: Spend = spend_freely
) -> Iterator[tuple[str, IO[bytes]]]:
    """Open the named members of an archive, one after the other; see `member_names`."""
    if _is_tar(name):
        wanted = Counter(members)
        for member, stream in _tar(path, name, spend):
            if wanted[member] > 0:
                wanted[member] -= 1
                yield member, stream
        return
    with _open_zip(path, name) as archive:
        by_name: dict[str, list[zipfile.ZipInfo]] = {}
        for entry in _entries(archive, name):
            by_name.setdefault(entry.filename, []).append(entry)
        for member in members:
            entry = by_name[member].pop(0)
            with damage_named(f"{name}/{member}"):
                inner = archive.open(entry)
            with inner:
                yield member, inner


def _check(member: str, name: str, is_link: bool) -> None:
    parts = re.split(r"[/\\]", member)
    if ".." in parts or parts[0] == "" or parts[0].endswith(":"):
        raise ValueError(f"{name} holds {member!r}, a name outside of the archive")
    if is_link:
        raise ValueError(f"{name} holds {member!r}, which is a link")


def _check_head(head: bytes, name: str, wanted: str) -> None:
    """Raise ValueError if the file is evidently something else than an archive."""
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
            raise ValueError(f"{name} is damaged: {error}") from None
        with archive:
            yield archive


def _entries(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """The files in a zip archive."""
    for entry in archive.infolist():
        _check(entry.filename, name, stat.S_ISLNK(entry.external_attr >> 16))
    return [entry for entry in archive.infolist() if not entry.is_dir()]


# ----- tar


class _TarInfo(tarfile.TarInfo):
    """A member's header, checked more strictly than tarfile does."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_TarInfo":
        """Read the next header. A corrupt one is an error; to tarfile it is the archive's end."""
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
            raise tarfile.ReadError("a member of negative size")
        if self.size > LONGEST_HEADER and self.type in b"xgXLK" and self.type != tarfile.REGTYPE:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc]


def _tar(path: Path, name: str, spend: Spend) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield each file of a tar archive, in order. The content decides how it is compressed."""
    with path.open("rb") as file:
        packing = packing_of(head := file.peek(512))
        if not packing:
            _check_head(head, name, "a tar archive")
        stream = unpacked(file, name, packing)
        if packing:
            stream = _Spending(stream, name, spend)  # type: ignore[assignment]
        with damage_named(name):
            archive = tarfile.open(  # noqa: SIM115 (it holds nothing but the stream)
                fileobj=stream, mode="r|", bufsize=TAR_BUFFER, tarinfo=_TarInfo
            )
        while (member := _next(archive, name)) is not None:
            if member.isdir():
                continue
            shown = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            shown = re.sub(r"^(\./+)+", "", shown)  # `tar -c .` names its members so
            _check(shown, name, member.issym() or member.islnk())
            if not member.isreg() or member.issparse():
                raise ValueError(f"{name} holds {shown!r}, which is not a plain file")
            inner = archive.extractfile(member)
            assert inner is not None
            yield shown, Counted(inner)  # type: ignore[misc]
        with damage_named(name):
            while block := archive.fileobj.read(CHUNK):
                if block.strip(b"\0"):
                    raise tarfile.ReadError("something follows its end")


def _next(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo | None:
    with damage_named(name):
        member = archive.next()
    archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
    return member


class _Spending:
    """A stream whose bytes are counted as unpacked."""

    def __init__(self, stream: IO[bytes], name: str, spend: Spend) -> None:
        self._chunks = chunks(stream, name, spend)
        self._held = b""

    def read(self, size: int) -> bytes:
        """Some bytes, at most `size`; none at the end."""
        self._held = self._held or next(self._chunks, b"")
        some, self._held = self._held[:size], self._held[size:]
        return some
