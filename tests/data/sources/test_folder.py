"""A folder as real ones are: odd names, what is no file, what can't be read."""

import os
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from tests.data.sources.conftest import Bring, BringIt
from tinyllm.data.readers.raw_folder import read_manifest
from tinyllm.data.sources import folder, local_files


def test_odd_names_come_through(documents: Bring, raw: Path, texts: Path) -> None:
    names = ["A.txt", "a.txt", "b\nc.txt", "d\te\\.txt", "é" * 125 + ".txt", "f:?*|.txt", "g .txt"]
    for name in sorted(names):
        (texts / name).write_text(name)
    assert documents(path=str(texts)) == sorted(names)
    assert [file.name for file in read_manifest(raw).files] == sorted(names)


def test_a_name_with_a_line_feed_is_one_line_of_an_error(bring_it: BringIt, texts: Path) -> None:
    (texts / "b\nc.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"^b\\nc\.txt is not UTF-8") as caught:
        bring_it(path=str(texts))
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_skipped_and_told(
    documents: Bring,
    texts: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (texts / "a.txt").write_text("a text")
    os.mkfifo(texts / "b.txt")  # opening it would wait for ever
    with socket.socket(socket.AF_UNIX) as listening:
        with monkeypatch.context() as changed:
            changed.chdir(texts)  # the path of a socket has 108 bytes at most
            listening.bind("c.txt")
        (texts / "d.txt").symlink_to("nothing")
        (texts / "e.txt").symlink_to("e.txt")
        (texts / "f.txt").symlink_to("/dev/zero")
        (texts / "g.zip").symlink_to("nothing")
        (texts / "other").symlink_to("nothing")
        assert documents(path=str(texts)) == ["a text"]
    assert capfd.readouterr().err == (
        f"download: not read in {texts}, because they are no files: b.txt (a named pipe), "
        "c.txt (a socket), d.txt (a link to nothing), e.txt (Too many levels of symbolic links), "
        "f.txt (a device), ...\n"
    )


def test_only_what_would_be_read_is_told(
    documents: Bring, texts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (texts / "a.CSV").write_text("text,n\na text,1\n")
    os.mkfifo(texts / "a.fifo")
    (texts / ".cache").mkdir()
    (texts / ".cache/z.zip").write_bytes(b"no archive")
    assert documents(path=str(texts)) == ["a text"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_path_that_is_no_file_is_an_error(bring_it: BringIt, texts: Path, kind: str) -> None:
    path = texts / "pipe.txt"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"^download\.path = .*: is neither a file nor a folder$"):
        bring_it(path=str(path))


def test_what_may_not_be_read_is_told(
    bring_it: BringIt, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user root may read everything, so a loop of links stands in for a refusal there."""
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
        bring_it(path=str(texts))


def test_a_file_that_is_deleted_meanwhile_is_named(
    bring_it: BringIt, texts: Path, monkeypatch: pytest.MonkeyPatch
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
        bring_it(path=str(texts))


def test_a_home_folder_is_not_guessed(bring_it: BringIt) -> None:
    with pytest.raises(ValueError, match=r"^download\.path = '~/corpus': .*neither DVC nor this"):
        bring_it(path="~/corpus")


def test_a_folder_that_holds_the_output_is_refused(bring_it: BringIt, raw: Path) -> None:
    (raw.parent / "notes.txt").write_text("the project's own folder")
    for path in (raw.parent, raw.parent / "raw"):
        with pytest.raises(ValueError, match=r"^download\.path = .*: is a folder around .*name a"):
            bring_it(path=str(path))


def test_a_corpus_that_does_not_fit_the_disk_is_not_begun(
    bring_it: BringIt, raw: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (texts / "a.txt").write_bytes(b"a" * 5000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9000, 6000, 3000))
    with pytest.raises(ValueError, match=r"its 5,000 bytes are copied, and the disk .* 3,000 left"):
        bring_it(path=str(texts))
    assert list((raw / "files").iterdir()) == []


@pytest.mark.skipif(not os.getuid(), reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_told(bring_it: BringIt, texts: Path) -> None:
    (texts / "a.txt").write_text("a")
    (texts / "closed").mkdir(mode=0)
    with pytest.raises(ValueError, match=r"the folder .*closed can't be read: Permission denied"):
        bring_it(path=str(texts))


def test_a_folder_whose_path_is_too_long_to_list_is_told(bring_it: BringIt, texts: Path) -> None:
    """Unlike a folder that may not be listed, it stops the user root too."""
    (texts / "a.txt").write_text("a")
    folder = os.open(texts, os.O_RDONLY)
    for _ in range(20):  # a path may have 4,096 bytes
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    with pytest.raises(ValueError, match=r"the folder .* can't be read: File name too long"):
        bring_it(path=str(texts))


# ----- a folder without a file to read


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (["a.arrow", "b.arrow", "c/d.arrow"], r"3 \.arrow, which are not read \(export them"),
        (["a.pdf", "b.DOCX"], r"1 \.pdf, which are not read \(convert them to \.txt\), 1 \.docx"),
        (["a.md", "b.md", "c.pdf", "d"], r"2 \.md, 1 \.pdf, .*, 1 without a .*; downl"),
        (["a.7z"], r"1 \.7z, which are not read \(unpack them\)$"),
    ],
)
def test_a_folder_without_a_file_to_read_says_what_is_there(
    bring_it: BringIt, texts: Path, names: list[str], there: str
) -> None:
    (texts / "c").mkdir()
    for name in names:
        (texts / name).write_bytes(b"x")
    count = len(names)
    with pytest.raises(
        ValueError, match=rf"^download\.path = .*: none of its {count} file\(s\) is a .* {there}"
    ) as caught:
        bring_it(path=str(texts))
    assert ("**/*.md" in str(caught.value)) == ("a.md" in names)


def test_patterns_of_files_have_braces_and_may_begin_at_the_folder(
    documents: Bring, bring_it: BringIt, texts: Path
) -> None:
    for name in ("a.md", "b.rst", "c.txt"):
        (texts / name).write_text(name)
    for pattern in ("*.{md,rst}", "./*.{md,rst}", "{./*.md,b.*}", "[ab].{rst,md}"):
        assert documents(path=str(texts), files=pattern) == ["a.md", "b.rst"]
    with pytest.raises(
        ValueError, match=r"none of its 3 .* matches .* = '\*\.\{py,c\}': a\.md, b\.rst"
    ):
        bring_it(path=str(texts), files="*.{py,c}")
