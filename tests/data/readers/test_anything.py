"""Any bytes, with any packing, name and settings, give documents or a single-line error.

To try more examples than the suite does:
TINYLLM_EXAMPLES=10000 python -m pytest -n 0 tests/data/readers/test_anything.py
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import shutil
import sqlite3
import tarfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.data.readers.packed import COMPRESS
from tests.data.sources.conftest import download
from tests.helpers import read_documents
from tinyllm.data.sources.corpus import fetch_corpus
from tinyllm.settings.download import Download

MORE = os.environ.get("TINYLLM_EXAMPLES")  # then with different examples in each run
EXAMPLES = int(MORE or 200)
BASE = download()


class Case(NamedTuple):
    """A file, the settings to read it with, and whether it is evidently not text."""

    name: str
    data: bytes
    changes: dict[str, Any]
    binary: bool


OTHER = b"a text in the other member of an archive"


def zipped(data: bytes, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in [(name, data), ("b.txt", OTHER)][: 1 + len(data) % 2]:
            archive.writestr(member, content)
    return buffer.getvalue()


def tarred(data: bytes, name: str, mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for member, content in [(name, data), ("b.txt", OTHER)][: 1 + len(data) % 2]:
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sqlite(texts: list[str]) -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("create table t (text)")
        database.executemany("insert into t values (?)", [[text] for text in texts])
        return database.serialize()


def as_parquet(values: list[Any]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"text": pa.array(values)}), buffer)
    return buffer.getvalue()


def as_csv(rows: list[list[str]], delimiter: str) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows([["id", "text"], *rows])
    return buffer.getvalue()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
VALUE = st.one_of(
    TEXT,
    st.none(),
    st.integers(),
    st.lists(TEXT, max_size=3),
    st.dictionaries(st.sampled_from(["b", "text"]), TEXT, max_size=2),
)
RECORD: Any = st.one_of(
    st.dictionaries(st.sampled_from(["id", "text", "a", "a.b"]), VALUE, max_size=3),
    TEXT,
    st.none(),
    st.lists(st.integers(), max_size=2),
)
PACKINGS: dict[str, Any] = {
    ".gz": lambda data, _: gzip.compress(data, 1),
    ".bz2": lambda data, _: bz2.compress(data, 1),
    ".xz": lambda data, _: lzma.compress(data, preset=0),
    ".zst": lambda data, _: COMPRESS[".zst"](data),
    ".zip": zipped,
    ".tar": lambda data, name: tarred(data, name, "w"),
    ".tgz": lambda data, name: tarred(data, name, "w:gz"),
    ".tar.bz2": lambda data, name: tarred(data, name, "w:bz2"),
    ".tar.xz": lambda data, name: tarred(data, name, "w:xz"),
    ".tar.zst": lambda data, name: COMPRESS[".zst"](tarred(data, name, "w")),
}
SUFFIXES = ["", ".txt", ".md", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".html"]
ENCODINGS = [
    "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "gb18030",
    "big5", "shift_jis", "iso2022_jp", "utf-7", "cp037", "koi8-r", "euc_kr",
]  # fmt: skip
FIELDS = ["text", "text", "text", "a.b", "a[].text", "text[]", "text.b"]
FORMATS = ["auto", "auto", "auto", "text", "jsonl", "json", "csv", "tsv", "parquet"]
USUAL: list[dict[str, Any]] = [
    {},
    {"on_invalid": "skip"},
    {"errors": "replace"},
    {"encoding": "auto"},
]
# Files that begin with one of these and continue with random bytes are not text.
SIGNATURES = [
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    b"%PDF-1.7\n%\xb5\xb5\xb5\xb5\n",
    b"\x7fELF\x02\x01\x01\0",
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    b"7z\xbc\xaf\x27\x1c\0\x04",
    b"BZh91AY&SY",
    b"\xfd7zXZ\0\0\x04",
    b"\x28\xb5\x2f\xfd",
    b"Rar!\x1a\x07\x01\0",
    b"SQLite format 3\0",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"MZ\x90\0\x03\0\0\0",
    b"\x93NUMPY\x01\0v\0",
    b"ID3\x04\0\0\0",
]


PACKED = st.sampled_from([0, 0, 1, 1, 2])
SUFFIX_OF = {
    "text": ".txt",
    "csv": ".csv",
    "json": ".json",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
}


@st.composite
def contents(draw: st.DrawFn, usual: bool) -> tuple[str, bytes, bool]:
    """Draw a kind of file, its bytes, and whether they are evidently not text."""
    kind = draw(
        st.sampled_from(["text", "jsonl", "json", "csv", "bytes", "binary", "real", "parquet"])
    )
    encoding = "utf-8" if usual else draw(st.sampled_from(ENCODINGS))
    if kind == "bytes":
        return kind, draw(st.binary(max_size=300)), False
    if kind == "binary":
        rest = draw(st.randoms(use_true_random=False)).randbytes(600)
        return kind, draw(st.sampled_from(SIGNATURES)) + rest, True
    if kind == "real":
        texts = draw(st.lists(TEXT, min_size=1, max_size=5))
        what = draw(st.sampled_from(["sqlite", *PACKINGS]))
        data = "\n".join(texts).encode()
        data = sqlite(texts) if what == "sqlite" else PACKINGS[what](data, "a.txt")
        return kind, data, True
    if kind == "parquet":
        values = draw(
            st.lists(st.one_of(st.none(), TEXT, st.dictionaries(st.just("b"), TEXT)), max_size=4)
        )
        try:
            return kind, as_parquet(values), False
        except pa.ArrowException:  # dictionaries beside texts
            return kind, b"PAR1", False
    if kind == "text":
        text = draw(
            st.sampled_from(
                ["", "<!DOCTYPE html>\n<p>", "version https://git-lfs.github.com/spec/v1\n"]
            )
        )
        text += draw(TEXT)
    elif kind == "csv":
        rows = draw(st.lists(st.lists(TEXT, min_size=1, max_size=3), max_size=4))
        text = as_csv(rows, draw(st.sampled_from(",;\t")))
    else:
        records = draw(st.lists(RECORD, max_size=4))
        ascii, indent = draw(st.booleans()), draw(st.sampled_from([None, 2]))
        if kind == "jsonl":
            text = "\n".join(json.dumps(record, ensure_ascii=ascii) for record in records)
        else:
            text = json.dumps(records, ensure_ascii=ascii, indent=indent)
        text = text.replace('"b"', draw(st.sampled_from(['"b"', '"\\ud800"', '"\\u0000"'])))
    return kind, text.encode(encoding, "ignore"), False


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a corpus of one file."""
    usual = draw(st.booleans())
    kind, data, binary = draw(contents(usual))
    if draw(st.integers(0, 3)) == 0:
        data, binary = draw(damage(data)), False
    suffix = SUFFIX_OF.get(kind) if usual else None
    name = "a" + (suffix or draw(st.sampled_from(SUFFIXES)))
    for packing in draw(st.lists(st.sampled_from(list(PACKINGS)), max_size=draw(PACKED))):
        data = PACKINGS[packing](data, name)
        name += packing
        if draw(st.integers(0, 5)) == 0:
            data, binary = draw(damage(data)), False
    if draw(st.integers(0, 7)) == 0:  # a random name
        name = "a" + draw(st.sampled_from([*SUFFIXES, *PACKINGS]))
        binary = False
    if usual:
        return Case(name, data, draw(st.sampled_from(USUAL)), binary)
    changes: dict[str, Any] = {
        "format": draw(st.sampled_from(FORMATS)),
        "field": draw(st.sampled_from(FIELDS)),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8", "auto", *ENCODINGS])),
        "errors": draw(st.sampled_from(["strict", "replace"])),
        "on_invalid": draw(st.sampled_from(["error", "skip"])),
    }  # fmt: skip
    cut = draw(st.sampled_from([None, None, "separator", "document_start"]))
    if cut:
        changes[cut] = draw(st.sampled_from(["\n", "a", "\\n"]))
    return Case(name, data, changes, binary)


@st.composite
def damage(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut the bytes short, or replace some of them."""
    at = draw(st.integers(0, len(data)))
    if draw(st.booleans()):
        return data[:at]
    return (
        data[:at]
        + draw(st.binary(max_size=8))
        + data[draw(st.integers(at, min(at + 8, len(data)))) :]
    )


@settings(
    max_examples=EXAMPLES, derandomize=not MORE, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(cases())
def test_documents_or_one_line_that_helps(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = tmp_path_factory.mktemp("case")
    try:
        check(case, folder)
    finally:
        shutil.rmtree(folder)


def check(case: Case, folder: Path) -> None:
    path = folder / case.name
    path.write_bytes(case.data)
    (folder / "raw").mkdir()
    changes = {"source": "path", "path": str(path), "max_bytes": 10**7, **case.changes}
    given = Download.model_validate(BASE.model_dump() | changes)
    try:
        manifest = fetch_corpus(given, folder / "raw", folder / "downloads")
    except ValueError as error:
        assert type(error) is ValueError, error
        message = str(error)
        assert message and "\n" not in message and len(message) < 1500
        return
    found = read_documents(folder / "raw")
    assert len(found) == manifest.documents > 0
    assert not any("\0" in document for document in found)
    assert sum(len(document.encode()) for document in found) == manifest.bytes
    assert not case.binary or found == [OTHER.decode()]
