"""Fixtures for tests of sources: folders, settings, and a web site."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.sources.site import Site, running
from tests.helpers import ROOT, read_documents
from tinyllm.data.readers.raw_folder import Manifest, read_manifest
from tinyllm.data.sources.corpus import fetch_corpus
from tinyllm.data.sources.fetch import Patience
from tinyllm.settings.download import Download
from tinyllm.settings.load import load_params

# Fails fast, but long enough for a busy machine.
PATIENCE = Patience(stall=0.4, retries=3, backoff=0.01, longest=2.0)
PLAIN = {
    "source": "path", "packages": ["pandas==3.1.1"], "url": None, "path": "corpus", "files": None,
    "format": "auto", "field": "text", "separator": None, "document_start": None,
    "encoding": "utf-8", "errors": "strict", "on_invalid": "error", "sha256": None,
    "licence": None, "max_bytes": 10**8,
}  # fmt: skip

Documents = Callable[..., list[str]]
FetchIt = Callable[..., Manifest]


def download(**changes: Any) -> Download:
    """Return the download section of params.yaml with simple values, and changes."""
    section = load_params(ROOT / "params.yaml").download.model_dump()
    return Download.model_validate(section | PLAIN | changes)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    return folder


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture
def fetch_it(raw: Path, downloads: Path) -> Callable[..., Manifest]:
    """Return a function that empties and fills the raw folder with the given settings."""

    def fetch_it(**changes: Any) -> Manifest:
        shutil.rmtree(raw)
        raw.mkdir()
        return fetch_corpus(download(**changes), raw, downloads, PATIENCE)

    return fetch_it


@pytest.fixture
def documents(raw: Path, fetch_it: Callable[..., Manifest]) -> Documents:
    """Return a function that downloads a source, checks its manifest and reads its documents."""

    def documents(**changes: Any) -> list[str]:
        manifest = fetch_it(**changes)
        found = read_documents(raw)
        assert manifest == read_manifest(raw)
        assert manifest.documents == len(found)
        assert manifest.documents == sum(file.documents for file in manifest.files)
        assert manifest.bytes == sum(len(document.encode()) for document in found)
        for file in manifest.files:
            data = (raw / "files" / file.name).read_bytes()
            assert (file.bytes, file.sha256) == (len(data), sha256(data))
        return found

    return documents


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running() as site:
        yield site
