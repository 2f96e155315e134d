"""Many small files become a few packs; their documents, order and names stay."""

import gzip
import os
import pty
import re
import shutil
import sys
import termios
from pathlib import Path

import pytest

from tests.data.sources.conftest import Documents, FetchIt, sha256
from tests.data.sources.site import Site
from tests.data.sources.test_formats import zipped
from tests.helpers import read_documents
from tinyllm.data.readers.documents import LONGEST
from tinyllm.data.readers.raw_folder import Archive, read_manifest
from tinyllm.data.sources import small_files
from tinyllm.data.sources.small_files import MANY, SMALL


def fill(folder: Path, count: int = MANY + 50) -> list[str]:
    """Write small files in folders. Returns their texts by name."""
    for number in range(count):
        path = folder / f"{number % 3}/{number:05d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text {number}\u2028 of é\n")
    return [path.read_text() for path in sorted(folder.rglob("*.txt"))]


def names(raw: Path) -> list[str]:
    return sorted(path.name for path in (raw / "files").rglob("*") if path.is_file())


def test_many_small_files_become_few(documents: Documents, raw: Path, texts: Path) -> None:
    expected = fill(texts)
    assert documents(path=str(texts)) == expected
    assert names(raw) == ["packed-00000.jsonl"]
    manifest = read_manifest(raw)
    (pack,) = manifest.files
    assert pack.packed is not None
    assert pack.packed.files == sorted(p.relative_to(texts).as_posix() for p in texts.rglob("*.*"))
    assert (manifest.count, manifest.documents) == (len(expected), len(expected))


def test_few_files_are_not_packed(documents: Documents, raw: Path, texts: Path) -> None:
    expected = fill(texts, MANY)
    assert documents(path=str(texts)) == expected
    assert len(names(raw)) == MANY
    assert '"packed"' not in (raw / "manifest.json").read_text()


def test_the_bytes_are_the_same_every_time_and_in_any_order_of_the_disk(
    fetch_it: FetchIt, raw: Path, texts: Path
) -> None:
    fill(texts)
    fetch_it(path=str(texts))
    before = sha256((raw / "files/packed-00000.jsonl").read_bytes())
    moved = texts.with_name("texts2")
    moved.mkdir()
    for path in sorted(texts.rglob("*.txt"), reverse=True):  # created in another order
        target = moved / path.relative_to(texts)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    fetch_it(path=str(moved))
    (pack,) = (raw / "files").iterdir()
    assert sha256(pack.read_bytes()) == before


def test_large_files_and_archives_are_kept_after_the_packs(
    documents: Documents, raw: Path, texts: Path
) -> None:
    expected = fill(texts)
    large, long = "large " * SMALL, "x" * (LONGEST + 1)
    (texts / "0/large.txt").write_text(large)
    (texts / "0/long.txt.gz").write_bytes(gzip.compress(long.encode()))  # a small file
    (texts / "0/packed-00000.jsonl").write_text('{"text": "named like a pack"}' + " " * SMALL)
    (texts / "0/z.zip").write_bytes(zipped({"a.txt": b"in an archive"}))
    (texts / "packed-00000.jsonl").write_text('{"text": "named like a pack, too"}' + " " * SMALL)
    assert documents(path=str(texts)) == [
        *expected, large, long, "named like a pack", "in an archive", "named like a pack, too"
    ]  # fmt: skip
    kept = {"large.txt", "long.txt.gz", "packed-00000.jsonl", "z.zip"}
    assert set(names(raw)) == {*kept, "_packed-00000.jsonl"}


def test_small_files_are_read_by_the_settings(documents: Documents, texts: Path) -> None:
    fill(texts)
    for path in texts.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbfone\r\ntwo<|>\r\nthree")
    (texts / "0/!.txt").write_bytes(b"caf\xe9")
    found = documents(path=str(texts), separator="<|>", errors="replace")
    assert found == ["caf\ufffd", *["one\ntwo", "\nthree"] * (MANY + 50)]


def test_an_error_in_a_small_file_names_it(fetch_it: FetchIt, texts: Path) -> None:
    fill(texts)
    (texts / "1/bad.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"^1/bad\.txt is cut short"):
        fetch_it(path=str(texts))


def test_small_files_without_text_are_listed(fetch_it: FetchIt, raw: Path, texts: Path) -> None:
    expected = fill(texts)
    (texts / "2/empty.txt").touch()
    (texts / "2/space.txt").write_text(" \n")
    assert fetch_it(path=str(texts)).without_text == ["2/empty.txt", "2/space.txt"]
    assert read_documents(raw) == expected
    assert read_manifest(raw).count == len(expected) + 2


def test_the_bound_on_unpacked_bytes_applies_to_small_files(fetch_it: FetchIt, texts: Path) -> None:
    for number in range(MANY + 1):
        (texts / f"{number}.txt.gz").write_bytes(gzip.compress(b"a" * 1000))
    with pytest.raises(ValueError, match=r"unpacks to more than download\.max_bytes = 100,000"):
        fetch_it(path=str(texts), max_bytes=100_000)


def archive(kind: str, folder: Path) -> Path:
    """Pack all files of a folder into a zip or tar archive beside it."""
    made = shutil.make_archive(str(folder.parent / "a"), kind, folder)
    shutil.rmtree(folder)
    folder.mkdir()
    return Path(made)


@pytest.mark.parametrize("kind", ["zip", "gztar"])
@pytest.mark.parametrize("way", ["file", "folder", "url"])
def test_an_archive_of_many_small_files_is_packed(
    documents: Documents, raw: Path, texts: Path, site: Site, kind: str, way: str
) -> None:
    expected = fill(texts)
    path = archive(kind, texts)
    data = path.read_bytes()
    if way == "folder":
        path.rename(texts / path.name)
        (texts / "b.txt").write_text("another")
        assert sorted(documents(path=str(texts))) == sorted([*expected, "another"])
    elif way == "url":
        url = site.file(f"/{path.name}", data)
        assert sorted(documents(source="url", url=url, sha256=sha256(data))) == sorted(expected)
    else:
        assert sorted(documents(path=str(path))) == sorted(expected)
    pack = read_manifest(raw).files[0]
    assert pack.name == "packed-00000.jsonl"
    assert pack.packed is not None
    assert pack.packed.archive == Archive(path.name, len(data), sha256(data))
    assert len(pack.packed.files) == len(expected)


def test_an_archive_with_a_long_document_is_kept(
    documents: Documents, raw: Path, texts: Path
) -> None:
    expected = fill(texts)
    long = "x" * (LONGEST + 1)
    (texts / "2/z.txt").write_text(long)
    path = archive("zip", texts)
    assert documents(path=str(path)) == [*expected, long]
    assert names(raw) == [path.name]


def test_a_full_pack_is_followed_by_another(
    documents: Documents, raw: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_files, "PACK", 4000)
    expected = fill(texts)
    assert documents(path=str(texts)) == expected
    assert len(names(raw)) > 3
    assert documents(path=str(archive("zip", texts))) == expected
    assert len(names(raw)) > 1


def test_a_terminal_shows_how_much_was_read(
    fetch_it: FetchIt, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(texts)
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        fetch_it(path=str(texts))
    with os.fdopen(leader, "rb", buffering=0) as screen:
        assert re.search(rb"read: .*B/s", screen.read(10_000))


def test_a_small_file_takes_few_calls(fetch_it: FetchIt, texts: Path) -> None:
    """The time for 50,000 files, apart from their text, is the number of system calls."""

    def calls(count: int) -> int:
        fill(texts, count)
        made = 0

        def seen(_: object, event: str, __: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        sys.setprofile(seen)
        try:
            fetch_it(path=str(texts))
        finally:
            sys.setprofile(None)
        return made

    calls(MANY + 1)  # one-time work
    few, many = calls(MANY + 50), calls(MANY + 250)
    assert (many - few) / 200 < 300
