"""Patterns in addresses, and the names of downloaded files."""

import gzip
import subprocess
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.data.readers.packed import COMPRESS, as_jsonl, as_parquet, tarred, zipped
from tests.data.sources.conftest import Documents, FetchIt, sha256
from tests.data.sources.site import Request, Site
from tinyllm.data.readers.raw_folder import read_manifest
from tinyllm.data.sources.braces import expand
from tinyllm.data.sources.file_names import best_name, stated

PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"


def names(raw: Path) -> list[str]:
    return [file.name for file in read_manifest(raw).files]


# ----- braces


@pytest.mark.parametrize(
    "text",
    [
        "a{b,c}d", "{000..012}", "{1..10..3}", "{10..1..4}", "{a..e..2}", "x{a,b{1..3},c}y", "{a}",
        "{}", "a{b", "a}b", "{a,b}{1,2}", "{{a,b},c}", "{a{b,c}}", "{,x}y", "{-1..2}", "{-01..2}",
        r"{a,b\,c}", r"\{a,b\}", "{1..3", "{001..3}", "a{b,c{d}", "{1..a}", "{{1..3}",
    ],
)  # fmt: skip
def test_braces_expand_as_in_bash(text: str) -> None:
    printed = subprocess.run(
        ["bash", "-c", rf"printf '%s\n' {text}"], capture_output=True, text=True, check=True
    )
    assert expand(text) == printed.stdout.splitlines()


def test_the_number_of_addresses_is_bounded() -> None:
    with pytest.raises(ValueError, match=r"stands for more than 100,000 addresses"):
        expand("https://host/{1..1000000000}/{1..1000000000}")


def test_an_address_with_braces_stands_for_many(
    documents: Documents, raw: Path, site: Site
) -> None:
    for number in range(8, 12):
        site.file(f"/{number:03d}.txt.gz", gzip.compress(f"text {number}".encode()))
    url = site.address + "/{008..011}.txt.gz"
    assert documents(source="url", url=url) == ["text 8", "text 9", "text 10", "text 11"]
    assert read_manifest(raw).source == url
    sums = [file.sha256 for file in read_manifest(raw).files]
    assert len(documents(source="url", url=[url], sha256=sums)) == 4


def test_each_address_needs_a_digest(fetch_it: FetchIt, site: Site) -> None:
    site.file("/1", b"one")
    with pytest.raises(ValueError, match=r"^download\.sha256: has 1 digest.* for 3 address"):
        fetch_it(source="url", url=site.address + "/{1..3}", sha256=sha256(b"one"))
    assert site.seen == []


# ----- globs


def test_a_store_lists_the_files_of_a_pattern(documents: Documents, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("b", "a", "deep/c"):
        memory.pipe(f"/glob/{name}.jsonl", f'{{"text": "{name}"}}'.encode())
        (tmp_path / "store/deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"store/{name}.jsonl").write_text(f'{{"text": "{name}"}}')
    (tmp_path / "store/folder.jsonl").mkdir()
    for root in ("memory://glob", f"file://{tmp_path}/store"):
        assert documents(source="url", url=f"{root}/*.jsonl") == ["a", "b"]
        assert documents(source="url", url=f"{root}/**/*.jsonl") == ["a", "b", "deep/c"]
        assert documents(source="url", url=f"{root}/{{deep/?,[b-z]}}.jsonl") == ["deep/c", "b"]


def test_a_file_name_may_look_like_a_pattern(documents: Documents, tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one")
    assert documents(source="url", url=f"file://{tmp_path}/a[1].txt") == ["one"]


def test_a_pattern_without_a_match_is_an_error(fetch_it: FetchIt, site: Site) -> None:
    with pytest.raises(ValueError, match=r"^download\.url = 'memory://no/\*\.txt': no file match"):
        fetch_it(source="url", url="memory://no/*.txt")
    with pytest.raises(ValueError, match=r"a web server can't list files; use braces"):
        fetch_it(source="url", url=site.address + "/*.txt")
    assert site.seen == []


class Hanging(MemoryFileSystem):  # type: ignore[misc]
    """A store that never answers."""

    protocol = "hanging"

    def info(self, *_: Any, **__: Any) -> Any:
        time.sleep(5)

    isfile = info


@pytest.mark.parametrize("name", ["a.txt", "*.txt"])
def test_a_store_that_does_not_answer_is_an_error(fetch_it: FetchIt, name: str) -> None:
    fsspec.register_implementation("hanging", Hanging, clobber=True)
    with pytest.raises(ValueError, match=r"^hanging://bucket/.* no answer in 0\.4 s"):
        fetch_it(source="url", url=f"hanging://bucket/{name}")


# ----- names


def test_the_query_is_not_part_of_the_name(documents: Documents, raw: Path, site: Site) -> None:
    url = site.file("/data.jsonl?download=true", b'{"text": "a text"}')
    assert documents(source="url", url=url) == ["a text"]
    assert names(raw) == ["data.jsonl"]


def test_the_name_comes_from_the_header_or_a_redirect(
    documents: Documents, raw: Path, site: Site
) -> None:
    data = b'{"text": "a text"}'

    def named(header: str) -> Any:
        def behave(request: Request) -> None:
            request.head(200, Content_Length=len(data), Content_Disposition=header)
            request.send(data)

        return behave

    site.file("/store/real.jsonl?signed=1", data)
    urls = [
        site.at("/get?id=1", named('attachment; filename="../../a;b.jsonl"')),
        site.at("/get?id=2", named("attachment; filename=x; filename*=UTF-8''a%3Bb.jsonl")),
        site.at("/get/3", lambda request: request.head(302, Location="/store/real.jsonl?signed=1")),
    ]
    assert documents(source="url", url=urls) == ["a text"] * 3
    assert names(raw) == ["a_b.jsonl", "2-a_b.jsonl", "real.jsonl"]
    seen = len(site.seen)
    assert documents(source="url", url=urls) == ["a text"] * 3  # already downloaded
    assert names(raw) == ["a_b.jsonl", "2-a_b.jsonl", "real.jsonl"]
    assert len(site.seen) == seen


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (None, ""),
        ("inline", ""),
        ("attachment; filename=a.txt", "a.txt"),
        ('attachment; FileName="a \\"b\\".txt"', 'a "b".txt'),
        ("attachment; filename=b.txt; filename*=utf-8'en'na%C3%AFve.txt", "naïve.txt"),
        ("attachment; filename*=latin-1''na%EFve.txt", "naïve.txt"),
        ("attachment; filename*=nonsense''a.txt", ""),
        ("attachment; filename=" + "naïve.txt".encode().decode("latin-1"), "naïve.txt"),
        ("; ; filename", ""),
    ],
)
def test_the_name_in_a_header(header: str | None, name: str) -> None:
    assert stated(header) == name


def test_the_first_name_with_a_known_suffix_is_used() -> None:
    assert best_name("https://a/x.txt", "attachment; filename=blob", None) == "x.txt"
    assert best_name("https://a/get", "attachment; filename=..", None) == "get"
    assert best_name("https://a/", "attachment; filename=C:\\dir\\y.csv", None) == "y.csv"
    assert best_name("https://a/x", None, "https://b/0f3a?name=c.zip") == "x"
    assert best_name("https://a/x", "attachment; filename=.txt", "https://b/z.tar.gz") == "z.tar.gz"
    assert best_name("https://a/", None, None) == "text.txt"


def test_a_password_in_an_address_is_not_recorded(
    documents: Documents, raw: Path, site: Site
) -> None:
    url = site.file("/a.txt?sig=token", b"a text").replace("://", "://me:se@cret@")
    assert documents(source="url", url=url) == ["a text"]
    source = read_manifest(raw).source
    assert source == url.replace("se@cret", "***").replace("token", "***")
    assert "Authorization" in site.seen[0][1]


# ----- a page instead of a file


@pytest.mark.parametrize("path", ["/a.txt", "/a.jsonl", "/a.txt.gz", "/a"])
def test_a_page_instead_of_a_file_is_refused_and_not_kept(
    fetch_it: FetchIt, documents: Documents, site: Site, path: str
) -> None:
    def page(request: Request) -> None:
        request.head(200, Content_Type="text/html", Content_Length=len(PAGE))
        request.send(PAGE)

    good = b'{"text": "a text"}' if path == "/a.jsonl" else b"a text"
    good = gzip.compress(good) if path.endswith(".gz") else good
    url = site.at(path, page, lambda request: request.serve(good))
    with pytest.raises(ValueError, match=rf"^{url}: the server sent an HTML page .* is not kept;"):
        fetch_it(source="url", url=url)
    assert documents(source="url", url=url) == ["a text"]


def test_an_error_about_a_downloaded_file_names_its_address(fetch_it: FetchIt, site: Site) -> None:
    url = site.file("/a.jsonl", b'{"text": null}')
    with pytest.raises(ValueError, match=rf"^a\.jsonl.*null.* \(from {url}\)$"):
        fetch_it(source="url", url=url)


@pytest.mark.parametrize(
    ("path", "data", "name"),
    [
        ("/download?id=3", gzip.compress(b"a text"), "download.gz"),
        ("/download?id=3", zipped([("a.txt", b"a text"), ("a.md", b"no")]), "download.zip"),
        ("/get", tarred([("a.txt", b"a text")]), "get.tar"),
        ("/get", COMPRESS[".zst"](tarred([("a.txt", b"a text")])), "get.tar.zst"),
        ("/a.gz", gzip.compress(tarred([("a.txt", b"a text")])), "a.tar.gz"),
        ("/a.jsonl", gzip.compress(as_jsonl([{"text": "a text"}])), "a.jsonl.gz"),
        ("/a.jsonl.gz", as_jsonl([{"text": "a text"}]), "a.jsonl"),
        ("/a.txt.gz", COMPRESS[".xz"](b"a text"), "a.txt.xz"),
        ("/a.txt", b"a text", "a.txt"),
        ("/a.parquet", as_parquet(pa.array(["a text"])), "a.parquet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # compressed bytes contain the time
)
def test_the_compression_of_a_downloaded_file_is_detected(
    documents: Documents, raw: Path, site: Site, path: str, data: bytes, name: str
) -> None:
    assert documents(source="url", url=site.file(path, data)) == ["a text"]
    assert names(raw) == [name]


def test_an_error_in_an_expanded_address_names_the_setting(fetch_it: FetchIt) -> None:
    with pytest.raises(ValueError, match=r"^download\.url = 'http://\[::1/a': Invalid IPv6 URL"):
        fetch_it(source="url", url="http://{[::1],[::1}/a")
