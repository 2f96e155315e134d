"""Build files as programs of every kind write them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


def long_window(data: bytes) -> bytes:
    """Compress like `zstd --long=31`."""
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 31,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    packer = zstd.ZstdCompressor(options=options)
    packed = packer.compress(data) + packer.flush()
    with pytest.raises(zstd.ZstdError, match="too much memory"):  # the default limit refuses it
        zstd.decompress(packed)
    return packed


def zipped(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Build a zip archive; several members may have the same name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: Iterable[tuple[str, bytes]], **attributes: Any) -> bytes:
    """Build a tar archive; every member gets the attributes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def as_jsonl(records: Iterable[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def as_csv(rows: Iterable[Iterable[str]], delimiter: str = ",") -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    return buffer.getvalue().encode()


def as_parquet(array: Any, name: str = "text") -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({name: array}), buffer)
    return buffer.getvalue()
