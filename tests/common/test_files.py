"""Published files are complete or absent, and reading verifies them."""

import itertools
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.helpers import flip_bit
from tinyllm.common.files import (
    checked,
    checksums,
    publish_file,
    publish_folder,
    read_json,
    seal,
    sha256_of,
    write_json,
    write_text,
)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with publish_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # elsewhere, a rename would be a copy
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_does_not_change_the_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    with pytest.raises(error), publish_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []
    write_text(path, "before")
    with pytest.raises(error), publish_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    with publish_folder(path) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "file").write_text("1")
        assert not path.exists()
    assert (path / "deep" / "file").read_text() == "1"
    with publish_folder(path) as temporary:
        assert list(temporary.iterdir()) == []
        (temporary / "other").write_text("2")
        assert (path / "deep" / "file").read_text() == "1"
    assert [p.name for p in path.iterdir()] == ["other"]  # the old folder is replaced, not merged
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_does_not_change_the_folder(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "folder"
    with pytest.raises(error), publish_folder(path) as temporary:
        (temporary / "half").write_text("")
        raise error
    assert list(tmp_path.iterdir()) == []
    with publish_folder(path) as temporary:
        (temporary / "before").write_text("")
    with pytest.raises(error), publish_folder(path) as temporary:
        (temporary / "half").write_text("")
        raise error
    assert [p.name for p in path.iterdir()] == ["before"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("publish", [publish_file, publish_folder])
def test_remains_of_a_killed_process_are_deleted_but_not_those_of_a_running_one(
    tmp_path: Path, publish: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    path = tmp_path / "new"
    half: list[Path] = []
    for killed in (True, False):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                with publish(path) as new:
                    (new / "a" if new.is_dir() else new).write_text("half")
                    os.write(writer, b"!")
                    time.sleep(60)
            finally:
                os._exit(0)
        os.read(reader, 1)
        half = list(tmp_path.iterdir())
        assert len(half) == 1  # the second writer deleted what the first one left
        if killed:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    with publish(path) as temporary:
        (temporary / "a" if temporary.is_dir() else temporary).write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([*half, path])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_folder_is_never_seen_half_replaced(tmp_path: Path) -> None:
    """Not even after SIGKILL at any system call; the next publication cleans up."""
    path, names = tmp_path / "folder", ["a", "b", "c"]
    seen = set()
    for point in itertools.count(1):
        publish_texts(path, names, "old")
        assert list(tmp_path.iterdir()) == [path]
        child = os.fork()
        if child == 0:
            try:
                kill_at(point)
                publish_texts(path, names, "new")
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        if path.exists():
            found = [(path / name).read_text() for name in names]
            assert found in (["old"] * 3, ["new"] * 3)
            seen.add(found[0])
        if status == 0:
            break
    assert seen == {"old", "new"}
    assert list(tmp_path.iterdir()) == [path]


def kill_at(point: int) -> None:
    """Make this process kill itself at its `point`-th audited system call."""
    points = itertools.count(1)

    def look(event: str, _: object) -> None:
        interesting = event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")
        if interesting and next(points) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def publish_texts(path: Path, names: list[str], text: str) -> None:
    with publish_folder(path) as new:
        for name in names:
            (new / name).write_text(text)


def test_permissions_respect_the_umask(tmp_path: Path, umask: int) -> None:
    write_text(tmp_path / "file", "text")
    assert mode(tmp_path / "file") == 0o666 & ~umask
    with publish_folder(tmp_path / "folder") as temporary:
        (temporary / "inside").write_bytes(b"")
    assert mode(tmp_path / "folder") == 0o777 & ~umask
    assert mode(tmp_path / "folder" / "inside") == 0o666 & ~umask


def test_text_keeps_its_bytes(tmp_path: Path) -> None:
    text = "ä\r\n\rend\n"
    write_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == text.encode()


def test_json_is_read_back_and_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    content = {"b": [1, 0.1, None, True], "a": "ä\n😀", "c": {}}
    write_json(tmp_path / "one.json", content)
    write_json(tmp_path / "two.json", json.loads(json.dumps(content)))
    assert read_json(tmp_path / "one.json") == content
    assert list(read_json(tmp_path / "one.json")) == ["b", "a", "c"]
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_json_can_not_express_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "file.json", {"loss": value})
    assert list(tmp_path.iterdir()) == []


def test_json_that_is_missing_or_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(ValueError, match=r"file\.json is missing"):
        read_json(path)
    for corrupt in (b"", b'{"a": ', b"\xff"):
        path.write_bytes(corrupt)
        with pytest.raises(ValueError, match=r"file\.json is corrupt"):
            read_json(path)


@pytest.fixture
def sealed_folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    write_text(tmp_path / "deep" / "a.txt", "a")
    write_json(tmp_path / "b.json", {"b": 1})
    seal(tmp_path)
    return tmp_path


def flipped(data: bytes) -> Iterator[bytes]:
    """Yield the bytes with each bit flipped in turn."""
    for bit in range(8 * len(data)):
        corrupt = bytearray(data)
        corrupt[bit // 8] ^= 1 << bit % 8
        yield bytes(corrupt)


def test_files_of_a_sealed_folder_can_be_read(sealed_folder: Path) -> None:
    assert list(checksums(sealed_folder)) == ["b.json", "deep/a.txt"]
    assert read_json(checked(sealed_folder, "b.json")) == {"b": 1}
    before = (sealed_folder / "checksums.json").read_bytes()
    seal(sealed_folder)
    assert (sealed_folder / "checksums.json").read_bytes() == before


@pytest.mark.parametrize("name", ["b.json", "deep/a.txt"])
def test_changed_files_of_a_sealed_folder_are_refused(sealed_folder: Path, name: str) -> None:
    for corrupt in flipped((sealed_folder / name).read_bytes()):
        (sealed_folder / name).write_bytes(corrupt)
        with pytest.raises(ValueError, match=rf"{name} is corrupt"):
            checked(sealed_folder, name)
    write_text(sealed_folder / "more", "text")
    with pytest.raises(ValueError, match="more is corrupt"):
        checked(sealed_folder, "more")
    (sealed_folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        checked(sealed_folder, name)


def test_a_flipped_bit_in_the_checksums_is_found(sealed_folder: Path) -> None:
    """A file is read correctly, or an error names it."""
    seal_of_it = sealed_folder / "checksums.json"
    right = (sealed_folder / "b.json").read_bytes()
    for corrupt in flipped(seal_of_it.read_bytes()):
        seal_of_it.write_bytes(corrupt)
        try:
            assert checked(sealed_folder, "b.json").read_bytes() == right
        except ValueError as error:
            assert str(sealed_folder) in str(error)
    for wrong in ("[]", "3", '"text"', ""):
        seal_of_it.write_text(wrong)
        with pytest.raises(ValueError, match=r"checksums\.json is corrupt"):
            checked(sealed_folder, "b.json")
    seal_of_it.unlink()
    with pytest.raises(ValueError, match=r"checksums\.json is missing"):
        checked(sealed_folder, "b.json")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    # The first example of FIPS 180-2.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "file") == expected
    flip_bit(tmp_path / "file", 1)
    assert sha256_of(tmp_path / "file") != expected
