"""Files that are evidently not text are refused: the error says what they are and what to do."""

import binascii
import io
import pickle
import re
import sqlite3
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib import pyplot

from tests.data.readers.packed import COMPRESS, as_jsonl, as_parquet, tarred, zipped
from tests.data.sources.conftest import Documents
from tinyllm.data.readers.raw_folder import Manifest

FetchIt = Callable[..., Manifest]
HTML = b"\n<!-- saved -->\n<!DOCTYPE html>\n<html><body>Sign in to go on</body></html>\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
DVC = b"outs:\n- md5: 86c4e6aa9db7c042ec79f339dcb96d42\n  size: 12345\n"
ANNEX = b"/annex/objects/SHA256E-s1115394--86c4e6aa9db7c042.txt\n"


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    figure = pyplot.figure(figsize=(1, 1))
    figure.savefig(buffer, format=kind)
    pyplot.close(figure)
    return buffer.getvalue()


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(1000))
    return buffer.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table documents (text)")
        return connection.serialize()


def word() -> bytes:
    return zipped([("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"<document/>")])


def mailbox_file() -> bytes:
    message = EmailMessage()
    message["Subject"] = "A picture"
    message.add_attachment(bytes(range(256)) * 9, maintype="image", subtype="png")
    return b"From somebody@example.org Mon Jan  1 00:00:00 2024\n" + message.as_bytes()


def uuencoded() -> bytes:
    data = bytes(range(256))
    lines = [binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    return b"begin 644 a.bin\n" + b"".join(lines) + b"`\nend\n"


NOT_TEXT: list[tuple[str, Callable[[], bytes], str]] = [
    ("an HTML page", lambda: HTML, "open its address in a browser"),
    ("an HTML page", lambda: b"<?xml version='1.0'?>\n<HTML lang='en'>", "open its address"),
    ("a git-lfs pointer", lambda: LFS, "run `git lfs pull`"),
    ("a git-annex pointer", lambda: ANNEX, "run `git annex get`"),
    ("a DVC pointer", lambda: DVC, "run `dvc pull`"),
    (
        "an error message of a file store",
        lambda: b"<Error><Code>NoSuchKey</Code></Error>",
        "open its address",
    ),
    ("a PDF document", lambda: picture("pdf"), "convert it to text first"),
    ("a PostScript document", lambda: picture("ps"), "convert it"),
    ("an RTF document", lambda: rb"{\rtf1\ansi Hello}", "convert it"),
    ("an Office document", word, "convert it"),
    ("an image", lambda: picture("png"), "choose other files with download.files"),
    ("an SVG picture", lambda: picture("svg"), "choose other files"),
    ("a program", lambda: Path("/proc/self/exe").read_bytes()[:100_000], "choose other files"),
    ("an SQLite database", database, "export its texts as JSON Lines"),
    ("a file of tables or arrays", array, "export its texts"),
    ("a Python pickle", lambda: pickle.dumps(["a text"] * 3), "export its texts"),
    ("a Parquet file", lambda: as_parquet(["a"]), "set download.format: parquet"),
    ("gzip-compressed data", lambda: COMPRESS[".gz"](b"a text"), "rename it to end in .gz"),
    ("bzip2-compressed data", lambda: COMPRESS[".bz2"](b"a text"), "rename it to end in .bz2"),
    ("xz-compressed data", lambda: COMPRESS[".xz"](b"a text"), "rename it to end in .xz"),
    ("zstd-compressed data", lambda: COMPRESS[".zst"](b"a text"), "rename it to end in .zst"),
    ("a zip archive", lambda: zipped([("a.txt", b"a text")]), "rename it to end in .zip"),
    ("a tar archive", lambda: tarred([("a.txt", b"a text")]), "rename it to end in .tar"),
    ("JSON", lambda: as_jsonl([{"text": "a"}, {"text": "b"}]), "set download.format: jsonl"),
    ("JSON", lambda: b'[\n  {"text": "a"}\n]\n', "set download.format: json "),
    ("UTF-16 text", lambda: "a text".encode("utf-16"), "set download.encoding: utf-16$"),
    ("UTF-32 text", lambda: "a text".encode("utf-32"), "set download.encoding: utf-32$"),
    ("UTF-16-LE text", lambda: "a text".encode("utf-16-le"), "encoding: utf-16-le$"),
    ("UTF-16-BE text", lambda: "日本語の\n文 text".encode("utf-16-be"), "encoding: utf-16-be$"),
    ("binary data", lambda: bytes(range(256)) * 9, "choose other files"),
    ("JSON", lambda: b'["One text.", "Another \\"text\\"."]', "set download.format: json "),
    ("JSON", lambda: b'[\n  "Only one text, a \\u00e9"\n]\n', "set download.format: json "),
    ("XML", lambda: b'<?xml version="1.0"?>\n<a>A text</a>\n', "extract the text"),
    ("XML", lambda: b'<TEI xmlns="http://www.tei-c.org/ns/1.0"><text/></TEI>', "extract the text"),
    ("XML", lambda: b'<mediawiki xml:lang="en">\n  <page>\n', "extract the text"),
    ("XML", lambda: b"<!-- by hand -->\n<rss version='2.0'><channel>", "extract the text"),
    ("XML", lambda: b"<ListBucketResult xmlns='http://s3'><Name>", "extract the text"),
    ("part of an HTML page", lambda: b"<head><title>A</title></head>\nA text", "extract the text"),
    ("part of an HTML page", lambda: b"<body>\nA text\n</body>\n", "extract the text"),
    (
        "part of an HTML page",
        lambda: b"<p>A text.</p>\n<p>More of it.</p>\n" * 9,
        "extract the text",
    ),
    ("part of an HTML page", lambda: b"<p>A text\n<p>More of it\n" * 9, "extract the text"),
    ("part of an HTML page", lambda: b'<div class="a">A <b>text</b></div>', "extract the text"),
    (
        "part of an HTML page",
        lambda: b"<br />A line<br />Another<br />One more",
        "extract the text",
    ),
    ("a web archive (WARC)", lambda: b"WARC/1.0\r\nWARC-Type: response\r\n", "extract the text"),
    ("mail with encoded contents", mailbox_file, "export the texts of its messages"),
    ("encoded or encrypted data", uuencoded, "decode it first"),
    ("encoded or encrypted data", lambda: b"-----BEGIN PGP MESSAGE-----\n\nhQ", "decode it"),
    ("a Python pickle", lambda: pickle.dumps(["a text"] * 3, 0), "export its texts"),
    ("a Python pickle", lambda: pickle.dumps({"a": "text"}, 0), "export its texts"),
    ("a Python pickle", lambda: pickle.dumps("a text", 0), "export its texts"),
    ("a PDF document", lambda: b"\n%PDF-1.4\n", "convert it to text first"),
    ("an error message of a server", lambda: b"Entry not found", "open its address"),
    ("an error message of a server", lambda: b"404: Not Found", "open its address"),
    ("an error message of a server", lambda: b"Not Found\n", "open its address"),
]


@pytest.mark.parametrize(("what", "data", "advice"), NOT_TEXT)
def test_files_that_are_not_text_are_refused(
    fetch_it: FetchIt, texts: Path, what: str, data: Callable[[], bytes], advice: str
) -> None:
    (texts / "input.txt").write_bytes(data())
    seen = (
        rf"^input\.txt is not (utf-8 )?text: it looks like {re.escape(what)}.* \(.+\); .*{advice}"
    )
    with pytest.raises(ValueError, match=seen) as caught:
        fetch_it(path=str(texts))
    assert "\n" not in str(caught.value)
    (texts / "input.txt").rename(texts / "input.md")  # and inside an archive
    (texts / "a.zip").write_bytes(zipped([("input.md", data())]))
    if what not in ("JSON", "a Parquet file"):  # both are read if the name has no known suffix
        for name in ("input.md", "a.zip"):
            with pytest.raises(
                ValueError,
                match=r"input\.md is not (utf-8 )?text: it looks like " + re.escape(what),
            ):
                fetch_it(path=str(texts / name))


@pytest.mark.parametrize(
    "packing", ["a.txt.gz", "a.jsonl.zst", "a.txt.bz2", "a.xz", "a.zip", "a.tar", "a.tgz"]
)
@pytest.mark.parametrize(("what", "data"), [("HTML page", HTML), ("git-lfs pointer", LFS)])
def test_a_web_page_named_like_a_packed_file_is_refused(
    fetch_it: FetchIt, texts: Path, packing: str, what: str, data: bytes
) -> None:
    (texts / packing).write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{packing} is not .*: it looks like an? {what}"):
        fetch_it(path=str(texts / packing))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
@pytest.mark.parametrize(("what", "data"), [("HTML page", HTML), ("git-lfs pointer", LFS)])
def test_a_web_page_named_like_records_is_refused(
    fetch_it: FetchIt, texts: Path, name: str, what: str, data: bytes
) -> None:
    (texts / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{name} is not .*: it looks like an? {what}"):
        fetch_it(path=str(texts), on_invalid="skip")


@pytest.mark.parametrize("data", [HTML, LFS, ANNEX, b'{"text": "a"}\n', b"%PDF- is how it begins"])
def test_the_format_text_reads_other_formats_unchanged(
    documents: Documents, texts: Path, data: bytes
) -> None:
    (texts / "a.txt").write_bytes(data)
    assert documents(path=str(texts), format="text") == [data.decode()]


@pytest.mark.parametrize("errors", ["strict", "replace"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "auto"])
@pytest.mark.parametrize("what", ["image", "PDF document", "program", "gzip-compressed data"])
def test_no_setting_reads_binary_data_as_text(
    fetch_it: FetchIt, texts: Path, what: str, encoding: str, errors: str
) -> None:
    make = next(make for kind, make, _ in NOT_TEXT if kind.endswith(what))
    (texts / "a.txt").write_bytes(make())
    with pytest.raises(ValueError, match=r"^a\.txt is not text: it looks like"):
        fetch_it(path=str(texts), format="text", encoding=encoding, errors=errors)


def test_text_that_only_resembles_something_else_is_read(documents: Documents, texts: Path) -> None:
    found = [
        "BM is an abbreviation", "MZ too, and so is ID3", "PKzip is a program", "ORC is a monster",
        "The <html> element is the root", "{braces} and [brackets] open this text",
        "\x1b[31mred\x1b[0m", "PAR1 is a magic word", "[1] Somebody: a paper", "{\n\\it TeX}",
        "<mediawiki xml:lang='en'>", "<p>part of a page",
        "I saw a DUCK in the pond", "The ftyp box", "GIF89a is a format", "xar! he said", "PAR1 é",
        '{"key": "value"} is how a text on JSON may begin\n',
        "<!-- a comment -->\n" * 40 + "<p>and a page that ends otherwise",
        '<p align="center">\n  <img src="a.png">\n</p>\n\n# A project\n\nIt does things.\n',
        "<div align=center><b>A project</b></div>\n\nIt does things, see [here](a.md).\n",
        "A text with\n\n<p>a part in HTML</p>\n<p>and more</p>\n\nin its middle.\n",
        "<3 is a heart", "<|endoftext|>a text<|endoftext|>", "<s>a text</s>\n<s>another</s>\n",
        "<poem> is how it begins", "<doc id='1' title='A'>\nA text\n</doc>\n", "<?php echo 1; ?>",
        "<br>\n" + "A poem with a break before it.\n" * 9, "< b and > c are signs",
        '["Hello"] is what she wrote', '["Hello," he said, "and welcome"]\nThey went.',
        "Not Found is the title of a novel", "Error: not found in the index of the book",
        "404: Not Found is what servers send", "(lp is a record", "Voltaire\nwrote\n", "S\n",
        "begin 644 times", "begin at the beginning\nMany lines\n", "From here to there\nand back",
        "From: Anna\nSubject: a letter\n\nDear Berta, all is well.\n", "WARC/1.0 is a format",
        "-----BEGIN-----\nof a text", "a+b-c and 1+2, C++ or +abc- and +size", "~{ and ~} in code",
        "Dear \x1b$ reader", "The <?xml declaration", "<xml> is a word in brackets",
    ]  # fmt: skip
    for number, text in enumerate(found):
        (texts / f"{number:02}.txt").write_text(text)
    assert documents(path=str(texts)) == found


def test_a_nul_is_reported_with_its_position_or_replaced(
    fetch_it: FetchIt, documents: Documents, texts: Path
) -> None:
    (texts / "a.txt").write_bytes(b"a text" * 200_000 + b"\0 with a NUL")
    with pytest.raises(ValueError, match=r"^a\.txt has a NUL at offset 1,200,000, which is not"):
        fetch_it(path=str(texts))
    (found,) = documents(path=str(texts), errors="replace")
    assert found.endswith("a text\ufffd with a NUL")
    (texts / "a.txt").write_bytes(b"hello\0world")
    for format in ("auto", "text"):
        with pytest.raises(ValueError, match=r"^a\.txt has a NUL at offset 5, which is not text"):
            fetch_it(path=str(texts), format=format)
    (texts / "a.txt").rename(texts / "a.jsonl").write_bytes(as_jsonl([{"text": "a\0b"}]))
    with pytest.raises(ValueError, match=r"^a\.jsonl, line 1: contains a NUL, which is not text"):
        fetch_it(path=str(texts))


def test_replaced_bytes_do_not_hide_the_kind_of_a_file(fetch_it: FetchIt, texts: Path) -> None:
    """Also with `format: text`, which reads a page unchanged only if all of it is text."""
    (texts / "a.txt").write_bytes(b"\xff" + HTML)
    with pytest.raises(ValueError, match=r"^a\.txt is not text: it looks like an HTML page"):
        fetch_it(path=str(texts), format="text", errors="replace")


def test_the_format_of_a_file_without_suffix_is_detected(documents: Documents, texts: Path) -> None:
    (texts / "a.data").write_bytes(as_jsonl([{"text": "a"}]))
    (texts / "b.data").write_bytes(as_parquet(pa.array(["b"])))
    (texts / "c.data").write_bytes(b'[{"text": "c"}]')
    (texts / "d.data").write_bytes(b"d")
    (texts / "csv").write_bytes(b"no table")  # no suffix either
    found = documents(path=str(texts), files="{*.data,csv}")
    assert found == ["a", "b", "c", "no table", "d"]
    with zipfile.ZipFile(texts / "z.zip", "w") as archive:
        archive.write(texts / "b.data", "b.data")
    assert documents(path=str(texts / "z.zip")) == ["b"]
