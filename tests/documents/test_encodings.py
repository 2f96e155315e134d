"""Text in the encoding that it is in, and what is reported where it is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.corpus.conftest import Bring, download
from tests.documents.packed import as_csv, as_jsonl
from tinyllm.documents.raw import Manifest, read_manifest

BringIt = Callable[..., Manifest]
CHINESE = "北京是中华人民共和国的首都,也是全国的政治中心。\n城市历史悠久,文化遗产丰富。\n" * 20
RUSSIAN = "Москва является столицей России и крупнейшим городом страны.\n" * 20
GERMAN = "Die Grüße der Königin für die Bürger von Köln wären schön und überaus höflich.\n" * 20


@pytest.mark.parametrize("encoding", ["gbk", "big5", "utf-16", "utf-16-le", "utf-32", "euc_jp"])
def test_an_encoding_is_that_of_every_format(documents: Bring, texts: Path, encoding: str) -> None:
    text = "日本\n中文 <a>"
    (texts / "a.txt").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    (texts / "b.csv").write_bytes(as_csv([["text"], [text]]).decode().encode(encoding))
    line = as_jsonl([{"text": "?"}]).decode().replace("?", text.replace("\n", "\\n"))
    (texts / "c.jsonl").write_bytes(line.encode(encoding))
    (texts / "d.json").write_bytes(f"[{line}]".encode(encoding))
    assert documents(path=str(texts), encoding=encoding) == [text] * 4


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        (CHINESE, "gb18030", "gb"),
        (CHINESE, "utf-16-le", "utf-16-le"),
        (CHINESE, "utf-16", "utf-16"),
        (RUSSIAN, "cp1251", "cp1251"),
        (GERMAN, "cp1252", "cp125"),
        (CHINESE, "utf-8", None),
        (GERMAN, "utf-8-sig", None),
    ],
)
def test_an_encoding_is_detected_of_each_file_and_reported(
    documents: Bring, raw: Path, texts: Path, text: str, encoding: str, named: str | None
) -> None:
    (texts / "a.txt").write_bytes(text.encode(encoding))
    (texts / "b.txt").write_text("plain")
    assert documents(path=str(texts), encoding="auto") == [text, "plain"]
    notes = read_manifest(raw).notes
    assert (notes == []) if named is None else (f"detected in a.txt: {named}" in notes[0])


@pytest.mark.parametrize(
    ("text", "encoding"), [(CHINESE, "gb18030"), (RUSSIAN, "cp1251"), (CHINESE, "big5")]
)
def test_text_in_another_encoding_is_not_advised_to_be_replaced(
    bring_it: BringIt, texts: Path, text: str, encoding: str
) -> None:
    (texts / "a.txt").write_bytes(text.encode(encoding, "ignore"))
    with pytest.raises(
        ValueError, match=r"^a\.txt is not UTF-8: byte .* offset 0 \(set downl"
    ) as e:
        bring_it(path=str(texts))
    assert "download.encoding: " in str(e.value) and "replace" not in str(e.value)
    with pytest.raises(ValueError, match=r"^a\.txt: .* characters are not of .* too many to repl"):
        bring_it(path=str(texts), errors="replace")
    with pytest.raises(ValueError, match=r"^a\.txt is not ascii: byte .* \(set download\.encoding"):
        bring_it(path=str(texts), encoding="ascii")


@pytest.mark.parametrize("encoding", ["utf-8", "auto"])
def test_a_few_bytes_that_are_not_utf8_may_be_replaced(
    bring_it: BringIt, texts: Path, encoding: str
) -> None:
    (texts / "a.txt").write_bytes(CHINESE.encode() + b"\xff" + CHINESE.encode())
    with pytest.raises(ValueError, match=r"not UTF-8: byte 0xff at .*: replace puts U\+FFFD in"):
        bring_it(path=str(texts), encoding=encoding)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "latin-1"),
        (GERMAN, "cp1252"),
        (CHINESE, "gb18030"),
        (CHINESE, "utf-16-le"),
        ("plain text of an even length..", "utf-16-le"),
        ("plain text, 32 characters of it.", "utf-32-be"),
    ],
)
def test_utf8_is_not_read_as_something_else(
    bring_it: BringIt, texts: Path, text: str, encoding: str
) -> None:
    (texts / "a.txt").write_text(text, encoding="utf-8")
    for format in ("auto", "text"):
        with pytest.raises(
            ValueError, match=rf"^a\.txt is not {encoding} text: it looks like UTF-8"
        ):
            bring_it(path=str(texts), encoding=encoding, format=format)


def test_utf16_without_a_byte_order_mark_is_told_which_name_reads_it(
    bring_it: BringIt, texts: Path
) -> None:
    (texts / "a.txt").write_bytes("a text".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"\(set download\.encoding: utf-16-le or utf-16-be\)$"):
        bring_it(path=str(texts), encoding="utf-16")


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16-le"])
def test_replaced_characters_are_counted_by_file(
    documents: Bring, raw: Path, texts: Path, encoding: str
) -> None:
    good = "a text with its own \ufffd, "
    bad = {"utf-8": b"\xff", "gb18030": b"\xff", "utf-16-le": b"\x00\xdc"}[encoding]
    (texts / "a.txt").write_bytes(good.encode(encoding) + bad * 3 + good.encode(encoding))
    (texts / "b.txt").write_bytes(good.encode(encoding))
    (texts / "c.jsonl").write_bytes('{"text": "\\ud800"}'.encode(encoding))
    found = documents(path=str(texts), encoding=encoding, errors="replace")
    assert found == [good + "\ufffd" * 3 + good, good, "\ufffd"]
    manifest = read_manifest(raw)
    assert manifest.replaced == {"a.txt": 3, "c.jsonl": 1}
    assert manifest.notes == ["4 character(s) replaced by U+FFFD, in a.txt: 3, c.jsonl: 1"]


@pytest.mark.parametrize("name", ["utf-9", "rot13", "hex", "undefined", "idna", "a\0b"])
def test_a_name_of_no_encoding_is_found_with_the_settings(name: str) -> None:
    with pytest.raises(ValueError, match="must be auto or an encoding that Python knows"):
        download(encoding=name)
    assert download(encoding="UTF8").encoding == "utf-8"


# ----- separators


@pytest.mark.parametrize("setting", ["separator", "document_start"])
def test_what_should_cut_the_text_and_never_occurs_is_reported(
    documents: Bring, raw: Path, texts: Path, setting: str
) -> None:
    (texts / "a.txt").write_text("one\n\ntwo\n\nthree")
    (texts / "b.txt").write_text("four")
    documents(path=str(texts), **{setting: "@@"})
    assert read_manifest(raw).notes == [
        f"warning: download.{setting} = '@@' (2 character(s)) occurs 0 times in 2 text file(s), so "
        "each file is one document"
    ]
    documents(path=str(texts), **{setting: "two"})
    assert read_manifest(raw).notes == []


def test_a_separator_spelt_with_backslashes_is_shown_how_to_be_quoted(
    documents: Bring, raw: Path, texts: Path
) -> None:
    (texts / "a.txt").write_text("one\n\ntwo")
    documents(path=str(texts), separator="\\n\\n")
    (note,) = read_manifest(raw).notes
    assert r"download.separator = '\\n\\n' (4 character(s)) occurs 0 times" in note
    assert note.endswith("""in bash or zsh -S $'download.separator="\\n\\n"'""")
