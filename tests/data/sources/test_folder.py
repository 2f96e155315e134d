"""Folders with odd names, irregular files and files that can't be read."""

import os
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from tests.data.sources.conftest import Documents, FetchIt
from tinyllm.data.readers.raw_folder import read_manifest
from tinyllm.data.sources import folder, local_files


def test_odd_names_are_kept(documents: Documents, raw: Path, texts: Path) -> None:
    names = ["A.txt", "a.txt", "b\nc.txt", "d\te\\.txt", "é" * 125 + ".txt", "f:?*|.txt", "g .txt"]
    for name in sorted(names):
        (texts / name).write_text(name)
    assert documents(path=str(texts)) == sorted(names)
    assert [file.name for file in read_manifest(raw).files] == sorted(names)


def test_a_name_with_a_line_feed_is_escaped_in_an_error(fetch_it: FetchIt, texts: Path) -> None:
    (texts / "b\nc.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"^b\\nc\.txt is not UTF-8") as caught:
        fetch_it(path=str(texts))
    assert "\n" not in str(caught.value)


def test_irregular_files_are_skipped_and_reported(
    documents: Documents,
    texts: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (texts / "a.txt").write_text("a text")
    os.mkfifo(texts / "b.txt")  # opening it would block forever
    with socket.socket(socket.AF_UNIX) as listening:
        with monkeypatch.context() as changed:
            changed.chdir(texts)  # the path of a socket is limited to 108 bytes
            listening.bind("c.txt")
        (texts / "d.txt").symlink_to("nothing")
        (texts / "e.txt").symlink_to("e.txt")
        (texts / "f.txt").symlink_to("/dev/zero")
        (texts / "g.zip").symlink_to("nothing")
        (texts / "other").symlink_to("nothing")
        assert documents(path=str(texts)) == ["a text"]
    assert capfd.readouterr().err == (
        f"download: not read in {texts}, because they are not files: b.txt (a named pipe), "
        "c.txt (a socket), d.txt (a broken link), e.txt (Too many levels of symbolic links), "
        "f.txt (a device), ...\n"
    )


def test_only_files_that_would_be_read_are_reported(
    documents: Documents, texts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (texts / "a.CSV").write_text("text,n\na text,1\n")
    os.mkfifo(texts / "a.fifo")
    (texts / ".cache").mkdir()
    (texts / ".cache/z.zip").write_bytes(b"no archive")
    assert documents(path=str(texts)) == ["a text"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_path_that_is_not_a_file_is_an_error(fetch_it: FetchIt, texts: Path, kind: str) -> None:
    path = texts / "pipe.txt"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"^download\.path = .*: is neither a file nor a folder$"):
        fetch_it(path=str(path))


def test_a_file_without_permission_is_an_error(
    fetch_it: FetchIt, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user root can read everything, so there a loop of links stands in for a refusal."""
    (texts / "a.txt").write_text("a")
    (texts / "deep").mkdir()
    if os.getuid():
        (texts / "a.txt").chmod(0)
        message = "Permission denied"
    else:
        message, copied = "Too many levels of symbolic links", folder.files_of

        def then_refused(*args: object) -> object:
            found = copied(*args)  # type: ignore[arg-type]
            (texts / "a.txt").unlink()
            (texts / "a.txt").symlink_to("a.txt")
            return found

        monkeypatch.setattr(local_files, "files_of", then_refused)
    with pytest.raises(ValueError, match=rf"texts/a\.txt can't be read: {message}$"):
        fetch_it(path=str(texts))


def test_a_file_deleted_during_the_run_is_named(
    fetch_it: FetchIt, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "b.txt"):
        (texts / name).write_text(name)
    copied = folder.copy

    def then_deleted(*args: object) -> object:
        (texts / "b.txt").unlink(missing_ok=True)
        return copied(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(local_files, "copy", then_deleted)
    with pytest.raises(
        ValueError, match=r"texts/b\.txt was deleted while the corpus was read; run "
    ):
        fetch_it(path=str(texts))


def test_a_tilde_is_not_expanded(fetch_it: FetchIt) -> None:
    with pytest.raises(ValueError, match=r"^download\.path = '~/corpus': .*~ is not expanded"):
        fetch_it(path="~/corpus")


def test_a_folder_that_contains_the_output_is_refused(fetch_it: FetchIt, raw: Path) -> None:
    (raw.parent / "notes.txt").write_text("the project's own folder")
    for path in (raw.parent, raw.parent / "raw"):
        with pytest.raises(ValueError, match=r"^download\.path = .*: the folder contains .*set"):
            fetch_it(path=str(path))


def test_a_corpus_that_does_not_fit_on_the_disk_is_refused(
    fetch_it: FetchIt, raw: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (texts / "a.txt").write_bytes(b"a" * 5000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9000, 6000, 3000))
    with pytest.raises(ValueError, match=r"its 5,000 bytes are copied, and the disk .* 3,000 left"):
        fetch_it(path=str(texts))
    assert list((raw / "files").iterdir()) == []


@pytest.mark.skipif(not os.getuid(), reason="root can list every folder")
def test_a_folder_without_permission_is_an_error(fetch_it: FetchIt, texts: Path) -> None:
    (texts / "a.txt").write_text("a")
    (texts / "closed").mkdir(mode=0)
    with pytest.raises(ValueError, match=r"the folder .*closed can't be read: Permission denied"):
        fetch_it(path=str(texts))


def test_a_folder_with_a_very_long_path_is_an_error(fetch_it: FetchIt, texts: Path) -> None:
    """Unlike missing permissions, this also stops the user root."""
    (texts / "a.txt").write_text("a")
    folder = os.open(texts, os.O_RDONLY)
    for _ in range(20):  # a path is limited to 4,096 bytes
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    with pytest.raises(ValueError, match=r"the folder .* can't be read: File name too long"):
        fetch_it(path=str(texts))


# ----- a folder without a file to read


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (["a.arrow", "b.arrow", "c/d.arrow"], r"3 \.arrow, which are not read \(export them"),
        (["a.pdf", "b.DOCX"], r"1 \.pdf, which are not read \(convert them to \.txt\), 1 \.docx"),
        (["a.md", "b.md", "c.pdf", "d"], r"2 \.md, 1 \.pdf, .*, 1 without a .*; to read"),
        (["a.7z"], r"1 \.7z, which are not read \(unpack them\)$"),
    ],
)
def test_an_error_lists_the_files_that_are_not_read(
    fetch_it: FetchIt, texts: Path, names: list[str], there: str
) -> None:
    (texts / "c").mkdir()
    for name in names:
        (texts / name).write_bytes(b"x")
    count = len(names)
    with pytest.raises(
        ValueError, match=rf"^download\.path = .*: none of its {count} file\(s\) is a .* {there}"
    ) as caught:
        fetch_it(path=str(texts))
    assert ("**/*.md" in str(caught.value)) == ("a.md" in names)


def test_file_patterns_support_braces_and_relative_paths(
    documents: Documents, fetch_it: FetchIt, texts: Path
) -> None:
    for name in ("a.md", "b.rst", "c.txt"):
        (texts / name).write_text(name)
    for pattern in ("*.{md,rst}", "./*.{md,rst}", "{./*.md,b.*}", "[ab].{rst,md}"):
        assert documents(path=str(texts), files=pattern) == ["a.md", "b.rst"]
    with pytest.raises(
        ValueError, match=r"none of its 3 .* matches .* = '\*\.\{py,c\}': a\.md, b\.rst"
    ):
        fetch_it(path=str(texts), files="*.{py,c}")
