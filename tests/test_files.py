"""Published files are whole or not there, and are what was written."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import flip_bit
from tinyllm.files import (
    publish_file,
    publish_folder,
    read_json,
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


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with publish_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # elsewhere, a rename would be a copy
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
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


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
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
    assert [p.name for p in path.iterdir()] == ["other"]  # what stood there is replaced, not mixed
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_folder_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
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


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path, umask: int) -> None:
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


def test_json_comes_back_and_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    content = {"b": [1, 0.1, None, True], "a": "ä\n😀", "c": {}}
    write_json(tmp_path / "one.json", content)
    write_json(tmp_path / "two.json", json.loads(json.dumps(content)))
    assert read_json(tmp_path / "one.json") == content
    assert list(read_json(tmp_path / "one.json")) == ["b", "a", "c"]
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_refuses_what_json_has_no_word_for(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "file.json", {"loss": value})
    assert list(tmp_path.iterdir()) == []


def test_json_that_is_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(ValueError, match=r"file\.json is missing"):
        read_json(path)
    for damaged in (b"", b'{"a": ', b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"file\.json is damaged"):
            read_json(path)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    # The first example of FIPS 180-2.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "file") == expected
    flip_bit(tmp_path / "file", 1)
    assert sha256_of(tmp_path / "file") != expected
