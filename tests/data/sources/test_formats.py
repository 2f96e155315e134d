"""Text in every format, and errors for files that differ from their names."""

import gzip
import io
import json
import lzma
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data.sources.conftest import Documents
from tests.helpers import random_text
from tinyllm.data.readers.compression import CHUNK
from tinyllm.data.readers.decoding import decoded
from tinyllm.data.readers.raw_folder import Manifest

FetchIt = Callable[..., Manifest]


def zstd(data: bytes) -> bytes:
    with pa.BufferOutputStream() as sink:
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def as_parquet(texts: list[Any], names: Sequence[str] = ("id", "text")) -> bytes:
    buffer = io.BytesIO()
    table = pa.table([pa.array(range(len(texts))), pa.array(texts)], names=names)
    parquet.write_table(table, buffer, row_group_size=2, compression="zstd")
    return buffer.getvalue()


def as_jsonl(texts: list[str]) -> bytes:
    lines = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
    return "\n".join(lines).encode()


TEXTS = ["one\ntwo ä 😀", "three", "four\n", "five"]
PLAIN = {
    "text": "<|>".join(TEXTS).encode(),
    "jsonl": as_jsonl(TEXTS),
    "parquet": as_parquet(TEXTS),
}
SUFFIX = {"text": ".txt", "jsonl": ".jsonl", "parquet": ".parquet"}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("format", PLAIN)
def test_every_format_with_every_compression(
    documents: Documents, texts: Path, format: str, packing: str
) -> None:
    separator = "<|>" if format == "text" else None
    data = PACK[packing](PLAIN[format])
    (texts / f"a{SUFFIX[format]}{packing}").write_bytes(data)
    assert documents(path=str(texts), separator=separator) == TEXTS


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst"])
def test_compressed_files_may_be_concatenated(
    documents: Documents, texts: Path, packing: str
) -> None:
    (texts / f"a.txt{packing}").write_bytes(PACK[packing](b"one,") + PACK[packing](b"two"))
    assert documents(path=str(texts)) == ["one,two"]


def test_zero_bytes_between_xz_streams_are_padding(documents: Documents, texts: Path) -> None:
    one = "".join(map(chr, range(0x1000, 0x2000))) * 200  # more than one chunk
    parts = [lzma.compress(one.encode()), bytes(8), lzma.compress(b","), bytes(CHUNK), b""]
    (texts / "a.txt.xz").write_bytes(b"".join([*parts, lzma.compress(b"two"), bytes(4)]))
    assert documents(path=str(texts)) == [f"{one},two"]


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("format", PLAIN)
@pytest.mark.parametrize("folder", ["", "z.zip/"])
def test_corrupt_data_is_reported_for_every_compression(
    fetch_it: FetchIt, texts: Path, packing: str, format: str, folder: str
) -> None:
    name = f"a{SUFFIX[format]}{packing}"
    whole = PACK[packing](PLAIN[format])
    for data in (b"", whole[:-4], whole + b"what follows"):
        path, content = (texts / "z.zip", zipped({name: data})) if folder else (texts / name, data)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{folder}{name} is corrupt or cut short: ."):
            fetch_it(path=str(texts))


def test_a_zip_archive_counts_as_a_folder(documents: Documents, texts: Path) -> None:
    members = {
        "b.txt": b"b", "deep/a.jsonl.gz": gzip.compress(as_jsonl(["a"])), "z.parquet":
        as_parquet(["z"]), "notes.md": b"notes", "__MACOSX/._b.txt": b"x", ".DS_Store": b"x",
        "deep/": b"", "latin\xe4.txt": "ä".encode(), "__MACOSX/b.txt": b"x", "in/.x/b.txt": b"x",
    }  # fmt: skip
    (texts / "all.zip").write_bytes(zipped(members))
    found = ["b", "a", "ä", "z"]
    assert documents(path=str(texts / "all.zip")) == found


def test_a_folder_with_archives_and_a_pattern(documents: Documents, texts: Path) -> None:
    (texts / "one.zip").write_bytes(zipped({"in/x.md": b"in one", "y.txt": b"not this"}))
    (texts / "none.zip").write_bytes(zipped({"y.txt": b"nor this"}))
    (texts / "a.md").write_text("a")
    (texts / "b.txt").write_text("nor that")
    assert documents(path=str(texts), files="**/*.md") == ["a", "in one"]


def test_an_archive_of_one_file_counts_as_that_file(documents: Documents, texts: Path) -> None:
    (texts / "enwik8.zip").write_bytes(zipped({"enwik8": b"<text>"}))
    assert documents(path=str(texts / "enwik8.zip")) == ["<text>"]


def test_a_format_and_a_field_may_be_set(documents: Documents, texts: Path) -> None:
    (texts / "data").write_bytes(b'{"body": "one"}\n\n{"body": "two", "text": 3}\n')
    assert documents(path=str(texts / "data"), format="jsonl", field="body") == ["one", "two"]


def test_line_ends_are_the_same_in_every_format(documents: Documents, texts: Path) -> None:
    (texts / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a\\r\\nb\\rc"}\r\n{"text": "d"}')
    (texts / "b.parquet").write_bytes(as_parquet(["a\r\nb\rc"]))
    (texts / "c.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc")
    assert documents(path=str(texts)) == ["a\nb\nc", "d", "a\nb\nc", "a\nb\nc"]


def test_columns_of_every_kind_of_text(documents: Documents, texts: Path) -> None:
    plain = pa.array(TEXTS)
    for name, array in {"a": plain.dictionary_encode(), "b": plain.cast(pa.large_string())}.items():
        (texts / f"{name}.parquet").write_bytes(as_parquet(array))
    assert documents(path=str(texts)) == TEXTS + TEXTS


def test_other_columns_may_share_a_name(documents: Documents, texts: Path) -> None:
    table = pa.table([["id"], ["another"], ["a text"]], names=["id", "id", "text"])
    parquet.write_table(table, texts / "a.parquet")
    assert documents(path=str(texts)) == ["a text"]


def test_bytes_are_decoded_across_chunks() -> None:
    chance = random.Random(1)
    for _ in range(200):
        text = "\ufeff" * chance.randint(0, 2) + random_text(chance) + "\r" * chance.randint(0, 2)
        data = text.encode()
        cut = sorted(chance.choices(range(len(data) + 1), k=3))
        chunks = [data[a:b] for a, b in zip([0, *cut], [*cut, len(data)], strict=True)]
        plain = text.replace("\r\n", "\n").replace("\r", "\n")
        plain = re.sub("^\ufeff+", "", plain, flags=re.MULTILINE)  # marks of concatenated files
        assert "".join(decoded(chunks, "a", "strict")) == plain

        bad = chance.randrange(len(data) + 1)
        while bad < len(data) and data[bad] & 0xC0 == 0x80:  # not inside a character
            bad += 1
        data = data[:bad] + b"\xff" + data[bad:]
        chunks = [data[a:b] for a, b in zip([0, *cut], [*cut, len(data)], strict=True)]
        with pytest.raises(ValueError, match=f"a is not UTF-8: byte 0xff at offset {bad} "):
            list(decoded(chunks, "a", "strict"))
        assert "\ufffd" in "".join(decoded(chunks, "a", "replace"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", "naïve".encode("latin-1"), r"a\.txt is not UTF-8: byte 0xef at offset 2 "),
        ("a.txt", b"ab\xe2\x82", r"a\.txt is cut short in its last .*: byte 0xe2 at offset 2 "),
        ("a.txt", b"x" * CHUNK + b"\xff", r"a\.txt is not UTF-8: byte 0xff at offset 1,048,576 "),
        (
            "a.txt.gz",
            gzip.compress(b"ok\xff", mtime=0),
            r"a\.txt\.gz is not UTF-8: .* at offset 2 ",
        ),
        ("a.zip", zipped({"x.txt": b"\xff"}), r"a\.zip/x\.txt is not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text": }', r"a\.jsonl, line 2: is not JSON: Expecting v"),
        ("a.jsonl", b'{"id": 1, "body": "b"}', r"line 1: has no 'text', but 'id', 'body'; set"),
        ("a.jsonl", b'{"text": null}', r"a\.jsonl, line 1: its 'text' is null, not text"),
        ("a.jsonl", b'{"text": 5}', r"a\.jsonl, line 1: its 'text' is a number, not text"),
        ("a.jsonl", b'\n\n"a"', r"a\.jsonl, line 3: is text, not a JSON object"),
        ("a.jsonl", b'{"text": "\\ud800"}', r"a\.jsonl, line 1: contains half of a surrogate pair"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl, line 1: can't be read as JSON"),
        ("a.jsonl", b"9" * 5000, r"a\.jsonl, line 1: can't be read as JSON"),
        (
            "a.parquet",
            as_parquet(["a"], ["id", "body"]),
            r"a\.parquet: has no column 'text', but 'id', ",
        ),
        ("a.parquet", as_parquet([1, 2]), r"a\.parquet: column 'text' contains int64, not text"),
        (
            "a.parquet",
            as_parquet(["a"], names=["text", "text"]),
            r"a\.parquet: has 2 columns 'text'",
        ),
        ("a.parquet", as_parquet(["a", "b", None]), r"a\.parquet, row 3: its 'text' is null"),
        ("a.parquet", b"PAR1 no", r"a\.parquet is not Parquet, or corrupt: "),
        ("a.parquet", b"", r"a\.parquet is not Parquet, or corrupt: "),
        ("a.txt.gz", gzip.compress(b"a text", mtime=0)[:-4], r"a\.txt\.gz is corrupt or cut short"),
        ("a.txt.gz", b"\xfe text", r"a\.txt\.gz is corrupt or cut short: Not a gzipped"),
        ("b/a.txt.gz", b"a \xc3\xa4", r"is not gz-compressed but plain text; rename it to a\.txt$"),
        ("a.txt.xz", b"a text", r"is not xz-compressed but plain text; rename it to a\.txt$"),
        ("a.txt.xz", lzma.compress(b"a text")[:-4], r"a\.txt\.xz is corrupt or cut short"),
        ("a.txt.zst", zstd(b"a text" * 99)[:-4], r"a\.txt\.zst is corrupt or cut short"),
        ("a.zip", zipped({"a.txt": b"a"})[:-4], r"a\.zip is corrupt"),
        (
            "a.zip",
            zipped({"a.txt": b"a text"}, zipfile.ZIP_STORED).replace(b"a te", b"b te"),
            r"a\.zip/a\.txt is corrupt or cut short: Bad CRC",
        ),
    ],
)
def test_a_file_that_differs_from_its_name_is_an_error(
    fetch_it: FetchIt, raw: Path, texts: Path, name: str, data: bytes, message: str
) -> None:
    (texts / name).parent.mkdir(exist_ok=True)
    (texts / name).write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        fetch_it(path=str(texts))
    assert "\n" not in str(caught.value)
    assert not (raw / "manifest.json").exists()


def test_invalid_bytes_may_be_replaced(documents: Documents, texts: Path) -> None:
    (texts / "a.txt").write_bytes(b"na\xefve")
    (texts / "b.jsonl").write_bytes(b'{"text": "x\\ud800y"}\n{"text": "\xff"}')
    binary = pa.array([b"na\xefve"]).view(pa.string())
    (texts / "c.parquet").write_bytes(as_parquet(binary))
    assert documents(path=str(texts), errors="replace") == [
        "na\ufffdve", "x\ufffdy", "\ufffd", "na\ufffdve"
    ]  # fmt: skip


def test_a_separator_applies_to_plain_text_only(fetch_it: FetchIt, texts: Path) -> None:
    (texts / "a.jsonl").write_bytes(as_jsonl(["a"]))
    with pytest.raises(
        ValueError, match=r"^download\.separator: applies to plain text, but a\.jsonl"
    ):
        fetch_it(path=str(texts), separator="\n\n")


# ----- malicious archives


def evil(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("good.txt", "good")
        archive.writestr(name, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (evil("../out.txt"), r"'\.\./out\.txt', a name outside"),
        (evil("a/../../out.txt"), "a name outside"),
        (evil("/etc/out.txt"), r"'/etc/out\.txt', a name outside"),
        (evil("..\\out.txt"), "a name outside"),
        (evil("C:\\out.txt"), "a name outside"),
    ],
)
def test_names_that_lead_outside_an_archive_are_refused(
    fetch_it: FetchIt, tmp_path: Path, texts: Path, data: bytes, message: str
) -> None:
    (texts / "a.zip").write_bytes(data)
    for path in (texts, texts / "a.zip"):
        with pytest.raises(ValueError, match=message):
            fetch_it(path=str(path))
    assert not list(tmp_path.rglob("out.txt"))


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst", ".zip", ".jsonl.gz", ".parquet"])
def test_a_bomb_is_refused_at_the_bound(fetch_it: FetchIt, texts: Path, packing: str) -> None:
    """A few kilobytes that unpack to far more; 50 MB of blanks represent larger ones."""
    data = b" " * 50_000_000
    pack = {
        ".zip": lambda d: zipped({"a.txt": d}),
        ".jsonl.gz": lambda d: gzip.compress(d, 1),
        ".parquet": lambda d: as_parquet([d[: 1 << 20].decode()] * 50),
        ".gz": lambda d: gzip.compress(d, 1),
        ".xz": lambda d: lzma.compress(d, preset=0),
        ".zst": zstd,
    }
    name = f"a{packing}" if packing in (".zip", ".parquet", ".jsonl.gz") else f"a.txt{packing}"
    (texts / name).write_bytes(pack[packing](data))
    assert (texts / name).stat().st_size < 500_000
    with pytest.raises(ValueError, match=r"unpacks to more than download\.max_bytes = 5,000,000 "):
        fetch_it(path=str(texts), max_bytes=5_000_000)


# ----- memory

MEASURE = """
import re, sys
from pathlib import Path
from tinyllm.data.readers.formats import file_pieces
from tinyllm.data.readers.layout import Layout

def peak():  # resource.getrusage would include the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

before = peak()
path = Path(sys.argv[1])
layout = Layout(separator=sys.argv[2] or None)
count = sum(len(piece.text) for piece in file_pieces(path, path.name, None, layout))
print(count, (peak() - before) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="requires Linux's /proc")
@pytest.mark.parametrize(
    ("packing", "separator"), [(".gz", ""), (".gz", "<|endoftext|>"), (".xz", "")]
)
def test_memory_does_not_grow_with_a_file(tmp_path: Path, packing: str, separator: str) -> None:
    path = tmp_path / f"a.txt{packing}"
    with gzip.open(path, "wb", 1) if packing == ".gz" else lzma.open(path, "wb", preset=0) as file:
        for _ in range(96):
            file.write(b"a line of the text\n" * (1 << 20 >> 4))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), separator],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, megabytes = map(int, done.stdout.split())
    assert count > 100_000_000
    assert megabytes < 30
