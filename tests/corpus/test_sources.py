"""Bringing a corpus: from the places that `download.source` names into one raw folder."""

import hashlib
import http.server
import importlib.metadata
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT, flip_bit
from tinyllm.common.params import Download, load_params
from tinyllm.corpus.documents import Manifest, read_documents, read_manifest
from tinyllm.corpus.sources import bring


def download(**changes: Any) -> Download:
    section = load_params(ROOT / "params.yaml").download.model_dump()
    plain = {
        "source": "path", "packages": ["pandas==3.1.1"], "url": None, "path": "corpus",
        "sha256": None, "separator": None, "licence": None,
    }  # fmt: skip
    return Download.model_validate(section | plain | changes)


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


def documents(raw: Path, settings: Download) -> list[str]:
    """What a source brings, read back; its manifest must agree."""
    manifest = bring(settings, raw)
    found = list(read_documents(raw))
    assert manifest == read_manifest(raw)
    assert manifest.documents == len(found)
    assert manifest.bytes == sum(len(document.encode()) for document in found)
    for file in manifest.files:
        data = (raw / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), sha256(data))
    return found


# ----- path


def test_a_file_is_one_document(raw: Path, texts: Path) -> None:
    (texts / "book").write_text("one\n\ntwo\n")
    settings = download(path=str(texts / "book"), licence="none to speak of")
    assert documents(raw, settings) == ["one\n\ntwo\n"]
    assert read_manifest(raw).source == "book"
    assert read_manifest(raw).licence == "none to speak of"


def test_a_folder_gives_its_texts_in_order_of_name(raw: Path, texts: Path) -> None:
    (texts / "deep" / "deeper").mkdir(parents=True)
    for name in ["b.txt", "a.txt", "deep/z.txt", "deep/deeper/a.txt", "deep.txt"]:
        (texts / name).write_text(name)
    (texts / "notes.md").write_text("not a .txt")
    (texts / "folder.txt").mkdir()
    assert documents(raw, download(path=str(texts))) == [
        "a.txt", "b.txt", "deep.txt", "deep/deeper/a.txt", "deep/z.txt"
    ]  # fmt: skip


def test_a_separator_cuts_each_file_and_empty_documents_fall_out(raw: Path, texts: Path) -> None:
    (texts / "a.txt").write_text("one<|>two<|> \n <|><|>three")
    (texts / "b.txt").write_text("four<|>")
    (texts / "c.txt").write_text("\n")
    found = documents(raw, download(path=str(texts), separator="<|>"))
    assert found == ["one", "two", "three", "four"]


def test_line_ends_and_byte_order_marks_of_every_platform(raw: Path, texts: Path) -> None:
    (texts / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\rfour\n")
    settings = download(path=str(texts / "a.txt"), separator="\n\n")
    assert documents(raw, settings) == ["one\ntwo", "three\nfour\n"]


def test_text_that_is_not_utf8_is_named_with_its_place(raw: Path, texts: Path) -> None:
    (texts / "deep").mkdir()
    (texts / "good.txt").write_text("good")
    (texts / "deep" / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8: byte 0xef at offset 2"):
        bring(download(path=str(texts)), raw)


def test_every_character_comes_through(raw: Path, texts: Path) -> None:
    text = "\x00\x01\x1a\u2028\x85\x0b é e\u0301 日本 😀 \ufeff end"
    (texts / "a.txt").write_bytes(text.encode())
    assert documents(raw, download(path=str(texts))) == [text]


def test_the_sha256_of_a_file(raw: Path, texts: Path) -> None:
    (texts / "a.txt").write_bytes(b"abc")
    path = str(texts / "a.txt")
    assert documents(raw, download(path=path, sha256=sha256(b"abc"))) == ["abc"]
    with pytest.raises(ValueError, match=f"{sha256(b'abc')}, not {sha256(b'abd')}"):
        bring(download(path=path, sha256=sha256(b"abd")), raw)
    with pytest.raises(ValueError, match=r"^download\.sha256: .* not for a folder"):
        bring(download(path=str(texts), sha256=sha256(b"abc")), raw)


def test_a_path_that_gives_nothing(raw: Path, texts: Path) -> None:
    with pytest.raises(ValueError, match=r"^download\.path = .*no such file or folder"):
        bring(download(path=str(texts / "missing")), raw)
    (texts / "notes.md").write_text("text")
    with pytest.raises(ValueError, match=r"^download\.path = .*no \.txt file"):
        bring(download(path=str(texts)), raw)
    (texts / "a.txt").write_text(" \n\t")
    with pytest.raises(ValueError, match="empty"):
        bring(download(path=str(texts)), raw)


def test_a_bit_flipped_in_the_raw_folder_is_found(raw: Path, texts: Path) -> None:
    (texts / "a.txt").write_text("a text")
    bring(download(path=str(texts)), raw)
    flip_bit(raw / "a.txt", 3)
    with pytest.raises(ValueError, match=r"a\.txt is damaged"):
        list(read_documents(raw))
    (raw / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"a\.txt is missing"):
        list(read_documents(raw))


# ----- docstrings


def test_docstrings_come_as_documents_with_their_licence(raw: Path) -> None:
    requirement = f"pydantic=={importlib.metadata.version('pydantic')}"
    found = documents(raw, download(source="docstrings", packages=[requirement]))
    assert len(found) > 100
    assert any("\n" in document for document in found)
    manifest = read_manifest(raw)
    assert manifest.source == f"docstrings of {requirement}"
    assert manifest.licence == "MIT"


# ----- url

TEXT = "".join(f"line {i} of the text, ä 😀\n" for i in range(20_000)).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves TEXT well or badly, by the address asked for."""

    def do_GET(self) -> None:
        name = self.path.split("?")[0]
        if name == "/old":
            self.send_response(302)
            self.send_header("Location", "/text.txt")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if name not in ("/text.txt", "/short.txt", "/nolength.txt", "/"):
            self.send_error(404)
            return
        self.send_response(200)
        if name != "/nolength.txt":
            size = len(TEXT) + (1000 if name == "/short.txt" else 0)
            self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(TEXT)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("/text.txt", "text.txt"),
        ("/text.txt?key=a/b", "text.txt"),
        ("/old", "old"),
        ("/nolength.txt", "nolength.txt"),
        ("/", "text.txt"),
    ],
)
def test_a_text_from_the_web(raw: Path, site: str, name: str, file: str) -> None:
    settings = download(source="url", url=site + name, sha256=sha256(TEXT), licence="free")
    assert documents(raw, settings) == [TEXT.decode()]
    manifest = read_manifest(raw)
    assert (manifest.source, manifest.licence) == (site + name, "free")
    assert [f.name for f in manifest.files] == [file]


def test_a_text_from_the_web_is_cut_too(raw: Path, site: str) -> None:
    settings = download(source="url", url=f"{site}/text.txt", separator="\n")
    assert documents(raw, settings) == TEXT.decode().splitlines()


@pytest.mark.parametrize(
    ("name", "digest", "message"),
    [
        ("/text.txt", "0" * 64, "its SHA-256 is"),
        ("/missing.txt", None, "404"),
        ("/short.txt", None, "short.txt"),
        ("/short.txt", sha256(TEXT), "short.txt"),
    ],
)
def test_nothing_is_kept_of_a_download_that_failed(
    raw: Path, site: str, name: str, digest: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bring(download(source="url", url=site + name, sha256=digest), raw)
    assert list(raw.iterdir()) == []


def test_a_server_that_is_not_there(raw: Path, site: str) -> None:
    port = int(site.rsplit(":", 1)[1])
    free = next(p for p in range(port + 1, port + 50) if not _listens(p))
    with pytest.raises(ValueError, match="could not be downloaded"):
        bring(download(source="url", url=f"http://127.0.0.1:{free}/text.txt"), raw)
    assert list(raw.iterdir()) == []


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ----- the manifest


def test_a_manifest_that_is_missing_or_damaged(raw: Path, texts: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json is missing"):
        list(read_documents(raw))
    (texts / "a.txt").write_text("text")
    assert isinstance(bring(download(path=str(texts)), raw), Manifest)
    data = (raw / "manifest.json").read_bytes()
    (raw / "manifest.json").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        list(read_documents(raw))
