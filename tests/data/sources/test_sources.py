"""Every source of `download.source` fills the raw folder."""

import dataclasses
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from tests.data.sources.conftest import Documents, sha256
from tests.data.sources.site import Site
from tests.data.sources.test_formats import zipped
from tests.helpers import ROOT, flip_bit, read_documents
from tinyllm.data.readers.raw_folder import Manifest, read_manifest
from tinyllm.data.sources.catalogue import CATALOGUE, Address, check_source
from tinyllm.settings.load import load_params

FetchIt = Callable[..., Manifest]


# ----- path


def test_a_file_is_one_document(documents: Documents, raw: Path, texts: Path) -> None:
    (texts / "book").write_text("one\n\ntwo\n")
    assert documents(path=str(texts / "book"), licence="none to speak of") == ["one\n\ntwo\n"]
    assert read_manifest(raw).source == "book"
    assert read_manifest(raw).licence == "none to speak of"


def test_a_folder_gives_its_texts_in_order_of_name(documents: Documents, texts: Path) -> None:
    (texts / "deep" / "deeper").mkdir(parents=True)
    for name in ["b.txt", "a.txt", "deep/z.txt", "deep/deeper/a.txt", "deep.txt"]:
        (texts / name).write_text(name)
    (texts / "notes.md").write_text("not a .txt")
    (texts / "folder.txt").mkdir()
    assert documents(path=str(texts)) == [
        "a.txt", "b.txt", "deep.txt", "deep/deeper/a.txt", "deep/z.txt"
    ]  # fmt: skip


def test_a_link_to_a_folder_is_skipped_and_reported(
    documents: Documents, texts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.txt").write_text("behind a link")
    (texts / "deep").mkdir()
    (texts / "a.txt").write_text("a text")
    (texts / "linked.txt").symlink_to(tmp_path / "elsewhere/b.txt")
    assert documents(path=str(texts)) == ["a text", "behind a link"]
    assert capfd.readouterr().err == ""
    for link in (".hidden", "deep/link", "link"):
        (texts / link).symlink_to(tmp_path / "elsewhere")
    assert documents(path=str(texts)) == ["a text", "behind a link"]
    assert capfd.readouterr().err == (
        f"download: links to folders in {texts} are not read: deep/link, link; to read one, set "
        "download.path to its target, or copy it\n"
    )
    assert documents(path=str(texts / "link")) == ["behind a link"]
    assert capfd.readouterr().err == ""


def test_a_separator_cuts_each_file_and_empty_documents_are_skipped(
    documents: Documents, texts: Path
) -> None:
    (texts / "a.txt").write_text("one<|>two<|> \n <|><|>three")
    (texts / "b.txt").write_text("four<|>")
    (texts / "c.txt").write_text("\n")
    found = documents(path=str(texts), separator="<|>")
    assert found == ["one", "two", "three", "four"]


def test_line_ends_and_byte_order_marks_of_every_platform(
    documents: Documents, texts: Path
) -> None:
    (texts / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\rfour\n")
    assert documents(path=str(texts / "a.txt"), separator="\n\n") == ["one\ntwo", "three\nfour\n"]


@pytest.mark.parametrize("separator", ["\r\n--\r\n", "\r--\r", "\n--\n"])
@pytest.mark.parametrize("line_end", ["\r\n", "\r", "\n"])
def test_a_separator_matches_the_line_ends_of_any_platform(
    documents: Documents, texts: Path, line_end: str, separator: str
) -> None:
    (texts / "a.txt").write_bytes("one\n--\ntwo\n".replace("\n", line_end).encode())
    assert documents(path=str(texts), separator=separator) == ["one", "two\n"]


def test_invalid_utf8_is_reported_with_its_position(fetch_it: FetchIt, texts: Path) -> None:
    (texts / "deep").mkdir()
    (texts / "good.txt").write_text("good")
    (texts / "deep" / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8: byte 0xef at offset 2"):
        fetch_it(path=str(texts))


@pytest.mark.parametrize("name", [b"deep/caf\xe9.txt", b"caf\xe9/deep.txt", b"caf\xe9.zip"])
def test_a_name_that_is_not_utf8_is_an_error_before_any_work(
    fetch_it: FetchIt, raw: Path, texts: Path, name: bytes
) -> None:
    (texts / "a.txt").write_text("a text")
    path = texts / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    try:
        path.write_bytes(zipped({"a.txt": b"a"}) if path.suffix == ".zip" else b"a")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(ValueError, match=r"caf\\xe9.*: this file's name is not UTF-8; rename it$"):
        fetch_it(path=str(texts))
    assert list(raw.rglob("*")) == [raw / "files"]


def test_every_character_is_kept(documents: Documents, texts: Path) -> None:
    text = "\x01\x1a\u2028\x85\x0b é e\u0301 日本 😀 \ufeff end"
    (texts / "a.txt").write_bytes(text.encode())
    assert documents(path=str(texts)) == [text]


def test_the_sha256_of_a_file(documents: Documents, fetch_it: FetchIt, texts: Path) -> None:
    (texts / "a.txt").write_bytes(b"abc")
    path = str(texts / "a.txt")
    assert documents(path=path, sha256=sha256(b"abc")) == ["abc"]
    with pytest.raises(ValueError, match=f"{sha256(b'abc')}, not {sha256(b'abd')}"):
        fetch_it(path=path, sha256=sha256(b"abd"))
    with pytest.raises(ValueError, match=r"^download\.sha256: .* not for a folder"):
        fetch_it(path=str(texts), sha256=sha256(b"abc"))


def test_a_path_without_text_is_an_error(fetch_it: FetchIt, texts: Path) -> None:
    with pytest.raises(ValueError, match=r"^download\.path = .*the file or folder does not exist"):
        fetch_it(path=str(texts / "missing"))
    (texts / "notes.md").write_text("text")
    with pytest.raises(
        ValueError, match=r"^download\.path = .*none of its 1 file\(s\) is a \.txt, .* 1 \.md; "
    ):
        fetch_it(path=str(texts))
    (texts / "a.txt").write_text(" \n\t")
    with pytest.raises(ValueError, match="empty"):
        fetch_it(path=str(texts))


def test_a_bit_flipped_in_the_raw_folder_is_found(
    fetch_it: FetchIt, raw: Path, texts: Path
) -> None:
    (texts / "a.txt").write_text("a text")
    fetch_it(path=str(texts))
    flip_bit(raw / "files/a.txt", 3)
    with pytest.raises(ValueError, match=r"a\.txt is corrupt"):
        read_documents(raw)
    (raw / "files/a.txt").unlink()
    with pytest.raises(ValueError, match=r"a\.txt is missing"):
        read_documents(raw)


# ----- docstrings


def test_docstrings_are_documents_with_their_licence(documents: Documents, raw: Path) -> None:
    requirement = f"pydantic=={importlib.metadata.version('pydantic')}"
    found = documents(source="docstrings", packages=[requirement])
    assert len(found) > 100
    assert any("\n" in document for document in found)
    manifest = read_manifest(raw)
    assert manifest.source == f"docstrings of {requirement}"
    assert manifest.licence == "MIT"


# ----- errors of paths


def test_wrong_input_is_a_single_line_error(fetch_it: FetchIt, raw: Path, texts: Path) -> None:
    (texts / "a.md").write_text("a")
    cases: list[tuple[dict[str, object], str]] = [
        ({"path": f"{texts}/*.md"}, "does not exist; the pattern of a folder's files goes"),
        (
            {"path": str(texts), "files": "*.rst"},
            r"none of its 1 file\(s\) matches .*'\*\.rst': a\.md$",
        ),
        ({"source": "tinystorys"}, r"docstrings, .*, url, path \(did you mean tinystories\?\)"),
    ]
    for changes, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            fetch_it(**changes)
        assert "\n" not in str(caught.value)
        assert not (raw / "manifest.json").exists()


def test_files_named_like_the_manifest_are_read(documents: Documents, texts: Path) -> None:
    for name in ("manifest.json", "checksums.json"):
        (texts / name).write_text(name)
    assert documents(path=str(texts), files="*.json", format="text") == [
        "checksums.json",
        "manifest.json",
    ]


def test_a_pattern_chooses_files(documents: Documents, texts: Path) -> None:
    (texts / "deep").mkdir()
    for name in ["a.md", "b.txt", "deep/c.md", ".hidden.txt"]:
        (texts / name).write_text(name)
    assert documents(path=str(texts), files="**/*.md") == ["a.md", "deep/c.md"]


def test_empty_files_are_listed(documents: Documents, raw: Path, texts: Path) -> None:
    for name, text in {"a.txt": "", "b.txt": "b", "c.txt": "\n", "d.jsonl": ""}.items():
        (texts / name).write_text(text)
    assert documents(path=str(texts)) == ["b"]
    assert [file.documents for file in read_manifest(raw).files] == [0, 1, 0, 0]


# ----- the catalogue


def test_the_catalogue_can_be_read() -> None:
    for name, entry in CATALOGUE.items():
        check_source(name)
        assert entry.about and entry.licence
        assert all(address.url.startswith(("http://", "https://")) for address in entry.addresses)
    listed = (ROOT / "params.yaml").read_text(encoding="utf-8").split("packages:")[0]
    assert all(name in listed for name in CATALOGUE)


def test_an_unknown_source_is_a_settings_error(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    params = tmp_path / "params.yaml"
    params.write_text(text.replace("  source: docstrings", "  source: WikiText2"))
    with pytest.raises(ValueError, match=r"download\.source = 'WikiText2': must be one of .*\?\)"):
        load_params(params, check_source)
    assert load_params(params).download.source == "WikiText2"  # the other stages do not check it


@pytest.mark.parametrize("way", ["catalogue", "path"])
def test_tinyshakespeare_is_the_usual_file(
    documents: Documents, raw: Path, site: Site, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    file = ROOT.parent / "shared/data/tinyshakespeare.txt"
    if not file.exists():
        pytest.skip("tinyshakespeare is not here, and tests use no network")
    if way == "path":
        found = documents(path=str(file))
    else:
        entry = CATALOGUE["tinyshakespeare"]
        (address,) = entry.addresses
        stand_in = Address(site.file("/input.txt", file.read_bytes()), address.sha256)
        monkeypatch.setitem(
            CATALOGUE, "tinyshakespeare", dataclasses.replace(entry, addresses=(stand_in,))
        )
        found = documents(source="tinyshakespeare")
        assert read_manifest(raw).source == "tinyshakespeare"
        assert read_manifest(raw).licence == "public domain"
    assert found == [file.read_text(encoding="utf-8")]
    (downloaded,) = (raw / "files").iterdir()
    assert downloaded.read_bytes() == file.read_bytes()


def test_an_article_of_wikitext_is_a_document(
    documents: Documents, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = [
        " = One = \n \n Text . \n \n = = Part = = \n \n More . \n \n",
        " = Two = \n \n End . \n",
    ]
    members = {
        "wikitext-2-raw/wiki.train.raw": (" \n" + "".join(articles)).encode(),
        "wikitext-2-raw/wiki.test.raw": b" \n = Three = \n",
    }
    entry = CATALOGUE["wikitext-2"]
    stand_in = (Address(site.file("/wikitext-2-raw-v1.zip", zipped(members))),)
    monkeypatch.setitem(CATALOGUE, "wikitext-2", dataclasses.replace(entry, addresses=stand_in))
    assert documents(source="wikitext-2") == [" = Three = \n", *articles]


# ----- addresses


def test_several_addresses_are_one_corpus(documents: Documents, raw: Path, site: Site) -> None:
    urls = [site.file("/a/x.txt", b"one"), site.file("/b/x.txt", b"two"), site.file("/", b"three")]
    sums = [sha256(b"one"), sha256(b"two"), sha256(b"three")]
    found = documents(source="url", url=urls, sha256=sums, licence="free")
    assert found == ["one", "two", "three"]
    manifest = read_manifest(raw)
    assert [file.name for file in manifest.files] == ["x.txt", "2-x.txt", "text.txt"]
    assert (manifest.source, manifest.licence) == (", ".join(urls), "free")


def test_the_bound_on_bytes_applies_to_all_files_together(fetch_it: FetchIt, site: Site) -> None:
    urls = [site.file("/a", b"x" * 600), site.file("/b", b"x" * 600)]
    with pytest.raises(ValueError, match=r"/b has 600 bytes, and download\.max_bytes allows 400"):
        fetch_it(source="url", url=urls, max_bytes=1000)


def test_a_store_supported_by_fsspec(documents: Documents, fetch_it: FetchIt) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/part.jsonl", b'{"text": "from a store"}')
    assert documents(source="url", url="memory://bucket/part.jsonl") == ["from a store"]
    with pytest.raises(ValueError, match=r"memory://bucket/no\.txt: the file does not exist"):
        fetch_it(source="url", url="memory://bucket/no.txt")
    with pytest.raises(ValueError, match="memory://bucket is a directory, not a file"):
        fetch_it(source="url", url="memory://bucket")
    with pytest.raises(ValueError, match="allows 5 in all"):
        fetch_it(source="url", url="memory://bucket/part.jsonl", max_bytes=5)


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_plugin_is_named(fetch_it: FetchIt, scheme: str, package: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ValueError, match=f"{scheme}:// needs the package {package}: pip install "):
        fetch_it(source="url", url=f"{scheme}://bucket/a.txt")


def test_an_unknown_scheme_is_an_error(fetch_it: FetchIt) -> None:
    with pytest.raises(ValueError, match=r"^download\.url = 'htp://a/b': Protocol not known: htp"):
        fetch_it(source="url", url="htp://a/b")


# ----- the manifest


def test_a_manifest_that_is_missing_or_corrupt(fetch_it: FetchIt, raw: Path, texts: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json is missing"):
        read_documents(raw)
    (texts / "a.txt").write_text("text")
    assert isinstance(fetch_it(path=str(texts)), Manifest)
    data = (raw / "manifest.json").read_bytes()
    (raw / "manifest.json").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"manifest\.json is corrupt"):
        read_documents(raw)
