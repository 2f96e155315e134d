"""Decompress bytes chunk by chunk, with a bound on the size of the output."""

import bz2
import errno
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK = 1 << 20  # bytes
FIRST = 1 << 16  # bytes; a larger buffer may be mapped again for each file: 12 µs
PACKED = (".gz", ".zst", ".xz", ".bz2")
LONGEST_WINDOW = 31  # zstd: 2 GB, the maximum of `zstd --long`
# Called with the number of bytes unpacked; raises ValueError if the total is too large.
Spend = Callable[[int], None]


def spend_freely(_: int) -> None:
    """Count without a bound."""


def bounded(most: int, what: str) -> Spend:
    """Return a function that counts unpacked bytes up to a bound."""
    left = most

    def spend(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise ValueError(f"{what} unpacks to more than download.max_bytes = {most:,} bytes")

    return spend


def unpacked_name(name: str) -> str:
    """Return a file's name without its compression suffix."""
    return name.rpartition(".")[0] if name.lower().endswith(PACKED) else name


def packing_by_name(name: str) -> str:
    """Return a file's compression suffix in lower case; empty: none."""
    return f".{name.rpartition('.')[2].lower()}" if name.lower().endswith(PACKED) else ""


def packing_of(head: bytes) -> str:
    """Return the compression suffix for a file that begins with these bytes; empty: none."""
    if head[:3] == b"\x1f\x8b\x08":
        return ".gz"
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return ".bz2"
    if head[:6] == b"\xfd7zXZ\0":
        return ".xz"
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return ".zst"
    return ""


def unpacked(file: IO[bytes], name: str, packing: str) -> IO[bytes]:
    """Decompress a file.

    Args:
        packing: A suffix of PACKED; empty: not compressed.

    Raises:
        ValueError: The file is empty, which no compressed file is.
    """
    stream: Any = file
    if not packing:
        return stream
    with damage_named(name):
        if not stream.peek(1):
            raise EOFError("the file is empty")
    if packing == ".gz":
        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]
    return _Joined(stream, packing)  # type: ignore[return-value]


class _Joined:
    """Concatenated compressed streams.

    Data other than a stream after a stream is an error here; the standard library's file classes
    ignore it. Zero bytes between .xz streams are padding.
    """

    def __init__(self, file: IO[bytes], suffix: str) -> None:
        self._file = file
        self._padding = b"\0" if suffix == ".xz" else b""
        makers: dict[str, Callable[[], Any]] = {
            ".xz": lzma.LZMADecompressor,
            ".bz2": bz2.BZ2Decompressor,
            ".zst": _zstd,
        }
        self._new = makers[suffix]
        self._decompressor = self._new()

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; empty at the end.

        Raises:
            EOFError: The data is cut short; the library raises its own errors for corrupt data.
        """
        out = b""
        while not out:
            packed = b""
            if self._decompressor.eof:
                packed = self._decompressor.unused_data.lstrip(self._padding)
                while not packed:
                    if not (more := self._file.read(CHUNK)):
                        return b""
                    packed = more.lstrip(self._padding)
                self._decompressor = self._new()
            elif self._decompressor.needs_input and not (packed := self._file.read(CHUNK)):
                raise EOFError("the file ends within a stream")
            out = self._decompressor.decompress(packed, size)
        return out


def _zstd() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: LONGEST_WINDOW}
    )


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn any library's error about corrupt compressed data into a ValueError with the name."""
    try:
        yield
    except (
        EOFError,
        zlib.error,
        lzma.LZMAError,
        zstd.ZstdError,
        zipfile.BadZipFile,
        tarfile.TarError,
    ) as error:
        raise ValueError(f"{name} is corrupt or cut short: {_line(error)}") from None
    except RuntimeError as error:  # zipfile: needs a password, or unknown method
        raise ValueError(f"{name} can't be unpacked: {_line(error)}") from None
    except OSError as error:
        # gzip and bz2 raise OSError for corrupt data, without an errno. The corrupt directory of a
        # zip archive can send zipfile to a position before the file's beginning, which is EINVAL.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"{name} is corrupt or cut short: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class Counted:
    """A stream whose bytes were already counted as unpacked."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; empty at the end."""
        return self._file.read(size)

    def peek(self, size: int) -> bytes:
        """Return some of the next bytes without consuming them."""
        return self._file.peek(size)  # type: ignore[attr-defined]


def chunks(stream: IO[bytes], name: str, spend: Spend = spend_freely) -> Iterator[bytes]:
    """Yield the content of a stream.

    Raises:
        ValueError: The stream is corrupt.
    """
    # A plain file needs no bound; only its last read returns less than requested.
    plain = isinstance(stream, (io.BufferedReader, Counted))
    size = FIRST if plain else CHUNK
    with damage_named(name):
        while chunk := stream.read(size):
            if not plain:
                spend(len(chunk))
            yield chunk
            if plain and len(chunk) < size:
                return
            size = CHUNK


class Forward:
    """A stream for tarfile, with `tell` and forward `seek`; it counts its bytes as unpacked.

    tarfile's own (mode "r|") copies the rest of its buffer at each read, even of a header.
    """

    def __init__(self, stream: IO[bytes], name: str, spend: Spend) -> None:
        self._chunks = chunks(stream, name, spend)
        self._chunk = io.BytesIO()
        self._place = 0

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._place

    def seek(self, place: int) -> None:
        """Skip forward to an offset, or to the end if that is nearer."""
        while self._place < place and self.read(min(place - self._place, CHUNK)):
            pass

    def read(self, size: int) -> bytes:
        """Read `size` bytes, or the rest if that is less."""
        data = self._chunk.read(size)
        while len(data) < size and (chunk := next(self._chunks, b"")):
            self._chunk = io.BytesIO(chunk)
            data += self._chunk.read(size - len(data))
        self._place += len(data)
        return data
