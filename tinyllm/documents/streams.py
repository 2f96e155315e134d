"""The text inside a file: unpacked, decoded, its line ends made the same, a chunk at a time."""

import codecs
import gzip
import io
import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

CHUNK = 1 << 20  # bytes
PACKED = (".gz", ".zst", ".xz")
ZIP = ".zip"
Errors = Literal["strict", "replace"]
# Told how many bytes were unpacked; it raises ValueError if they become too many.
Spend = Callable[[int], None]


def spend_freely(_: int) -> None:
    """Set no bound."""


def bounded(most: int, what: str) -> Spend:
    """Set a bound of so many bytes on what is unpacked."""
    left = most

    def spend(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise ValueError(f"{what} unpacks to more than download.max_bytes = {most:,} bytes")

    return spend


def unpacked_name(name: str) -> str:
    """A file's name without the suffix of its compression."""
    return next((name[: -len(s)] for s in PACKED if name.lower().endswith(s)), name)


def is_zip(name: str) -> bool:
    """Whether a file is a zip archive, by its name."""
    return name.lower().endswith(ZIP)


def member_names(path: Path, name: str) -> list[str]:
    """The files in a zip archive, sorted; without those that desktops add.

    Raises:
        ValueError: it is damaged, or has a member that is a link or is named to lie outside.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"{name} is damaged: {error}") from None
    for member in members:
        parts = re.split(r"[/\\]", member.filename)
        if ".." in parts or parts[0] == "" or parts[0].endswith(":"):
            raise ValueError(f"{name} holds {member.filename!r}, a name outside of the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{name} holds {member.filename!r}, which is a link")
    files = {member.filename for member in members if not member.is_dir()}
    return sorted(file for file in files if not is_hidden(file))


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it lies in, is one that desktops hide."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def streams(
    path: Path, name: str, members: Sequence[str] | None
) -> Iterator[tuple[str, IO[bytes]]]:
    """Open each stream of bytes in a file, one after the other, compression undone.

    Args:
        name: what errors are to call the file.
        members: of a zip archive: those to read; None: the file is read itself.

    Yields:
        its name (of a member, the archive's before it), and the stream.
    """
    if members is None:
        with path.open("rb") as file:
            yield name, _unpacked(file, name)
        return
    with zipfile.ZipFile(path) as archive:
        for member in members:
            with _damage_named(f"{name}/{member}"):
                inner = archive.open(member)
            with inner:
                yield f"{name}/{member}", _unpacked(inner, f"{name}/{member}")


def _unpacked(file: IO[bytes], name: str) -> IO[bytes]:
    stream: Any = file
    suffix = Path(name).suffix.lower()
    with _damage_named(name):
        if suffix in PACKED and not stream.peek(1):  # no stream at all is for some an empty one
            raise EOFError("it is empty")
    if suffix == ".gz":
        stream = gzip.GzipFile(fileobj=file)
    elif suffix == ".xz":
        stream = _Xz(file)
    elif suffix == ".zst":
        import pyarrow

        stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd")
    return stream


class _Xz:
    """A file of .xz streams, one after the other, with zero bytes between them and at the end.

    lzma.LZMAFile takes whatever follows the first stream for its end, if it is no other stream.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor()

    def read(self, size: int) -> bytes:
        """Some bytes, at most `size`; none at the end.

        Raises:
            EOFError, lzma.LZMAError: it is damaged.
        """
        unpacked = b""
        while not unpacked:
            packed = b""
            if self._decompressor.eof:
                packed = self._decompressor.unused_data.lstrip(b"\0")
                while not packed:
                    if not (more := self._file.read(CHUNK)):
                        return b""
                    packed = more.lstrip(b"\0")
                self._decompressor = lzma.LZMADecompressor()
            elif self._decompressor.needs_input and not (packed := self._file.read(CHUNK)):
                raise EOFError("it ends within a stream")
            unpacked = self._decompressor.decompress(packed, size)
        return unpacked


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Tell of damage in packed bytes, whatever library found it, with the file's name."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} is damaged or cut short: {error}") from None
    except RuntimeError as error:  # zipfile: a password is needed, the method is not known
        raise ValueError(f"{name} can't be unpacked: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        # gzip and pyarrow raise it for what they read; the system's own has a number
        raise ValueError(f"{name} is damaged or cut short: {error}") from None


def chunks(stream: IO[bytes], name: str, spend: Spend = spend_freely) -> Iterator[bytes]:
    """What a stream holds.

    Raises:
        ValueError: it is damaged.
    """
    free = isinstance(stream, io.BufferedReader)  # a plain file unpacks to nothing more
    while True:
        with _damage_named(name):
            chunk = stream.read(CHUNK)
        if not chunk:
            return
        if not free:
            spend(len(chunk))
        yield chunk


def line_feeds(text: str) -> str:
    """A text with the line ends of every platform made `\\n`, as `decoded` makes them."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decoded(data: Iterable[bytes], name: str, errors: Errors) -> Iterator[str]:
    """Bytes as text: UTF-8, line ends become `\\n`, a byte-order mark at the beginning goes.

    Raises:
        ValueError: it is not UTF-8 (names the byte and its offset), and errors is "strict".
    """
    utf8 = codecs.getincrementaldecoder("utf-8")(errors)
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    offset, first = 0, True  # offset: bytes before what the decoder has not decoded
    for chunk, final in _with_end(data):
        pending = len(utf8.getstate()[0])
        try:
            text = decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            place, byte = offset - pending + error.start, error.object[error.start]
            raise ValueError(
                f"{name} is not UTF-8: byte {byte:#04x} at offset {place:,} "
                "(download.errors: replace puts \\ufffd in place of such)"
            ) from None
        offset += len(chunk)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        if text:
            yield text


def _with_end(data: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for chunk in data:
        yield chunk, False
    yield b"", True
