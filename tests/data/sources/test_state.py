"""A source that changes during a run is detected, by its files or packages."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.sources.conftest import FetchIt
from tests.data.sources.test_docstrings import FILES, Install, install  # noqa: F401 (a fixture)
from tests.helpers import ROOT
from tinyllm.data.sources.source_state import is_as_copied, source_state
from tinyllm.settings.download import Download
from tinyllm.settings.load import load_params


def settings(**changes: object) -> Download:
    section = load_params(ROOT / "params.yaml").download.model_dump()
    return Download.model_validate(section | changes)


def grow(folder: Path) -> None:
    with (folder / "deep/b.jsonl").open("a") as file:
        file.write("{}\n")


def touch(folder: Path) -> None:
    os.utime(folder / "a.txt", (1, 1))


def rewrite(folder: Path) -> None:
    """Write another text of the same size and set the time back, as some programs do."""
    state = (folder / "a.txt").stat()
    (folder / "a.txt").write_text("b")
    os.utime(folder / "a.txt", ns=(state.st_atime_ns, state.st_mtime_ns))


def add(folder: Path) -> None:
    (folder / "c.txt").write_text("c")


def remove(folder: Path) -> None:
    (folder / "a.txt").unlink()


@pytest.mark.parametrize("change", [grow, touch, rewrite, add, remove])
def test_a_changed_file_of_a_folder(tmp_path: Path, change: Callable[[Path], None]) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.jsonl").write_text('{"text": "b"}\n')
    (tmp_path / "a.txt").write_text("a")
    download = settings(source="path", path=str(tmp_path))
    before = source_state(download)
    assert len(before) == 2
    (tmp_path / ".a.txt.swp").write_text("an editor's")
    (tmp_path / "a.txt~").write_text("another's")
    assert source_state(download) == before
    change(tmp_path)
    assert source_state(download) != before


@pytest.mark.parametrize("path", ["texts", "texts/deep/a.txt"])
def test_only_a_file_with_the_content_of_its_copy_is_as_copied(
    fetch_it: FetchIt, raw: Path, texts: Path, path: str
) -> None:
    file, source = texts / "deep/a.txt", texts.parent / path
    file.parent.mkdir()
    file.write_text("a text")
    fetch_it(path=str(source))
    download = settings(source="path", path=str(source))
    assert is_as_copied(download, raw, str(file))
    file.write_text("A text")
    assert not is_as_copied(download, raw, str(file))
    (texts / "new.txt").write_text("a text")  # a file without a copy
    assert not is_as_copied(settings(source="path", path=str(texts)), raw, str(texts / "new.txt"))
    file.unlink()
    assert not is_as_copied(download, raw, str(file))


def test_missing_files_have_no_state(tmp_path: Path) -> None:
    assert source_state(settings(source="path", path=str(tmp_path / "nowhere"))) == {}


def test_a_changed_package(install: Install) -> None:  # noqa: F811 (the fixture)
    folder = install(FILES)
    download = settings(source="docstrings", packages=["mock-grain==1.2"])
    before = source_state(download)
    assert source_state(download) == before
    (folder / "mock_grain/b.py").write_text('"""Other."""')
    assert source_state(download) != before
    missing = settings(source="docstrings", packages=["no-such-package==1"])
    assert source_state(missing) == {"no-such-package==1": "not installed"}
