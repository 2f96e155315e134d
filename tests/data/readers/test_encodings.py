"""Text is read in its encoding, and wrong encodings are reported."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.readers.languages import LANGUAGES
from tests.data.readers.packed import as_csv, as_jsonl
from tests.data.sources.conftest import Documents, download
from tinyllm.data.readers.detecting import detected
from tinyllm.data.readers.raw_folder import Manifest, read_manifest

FetchIt = Callable[..., Manifest]
CHINESE = "北京是中华人民共和国的首都,也是全国的政治中心。\n城市历史悠久,文化遗产丰富。\n" * 20
RUSSIAN = "Москва является столицей России и крупнейшим городом страны.\n" * 20
GERMAN = "Die Grüße der Königin für die Bürger von Köln wären schön und überaus höflich.\n" * 20


@pytest.mark.parametrize("encoding", ["gbk", "big5", "utf-16", "utf-16-le", "utf-32", "euc_jp"])
def test_the_encoding_applies_to_every_format(
    documents: Documents, texts: Path, encoding: str
) -> None:
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
def test_the_encoding_of_each_file_is_detected_and_reported(
    documents: Documents, raw: Path, texts: Path, text: str, encoding: str, named: str | None
) -> None:
    (texts / "a.txt").write_bytes(text.encode(encoding))
    (texts / "b.txt").write_text("plain")
    assert documents(path=str(texts), encoding="auto") == [text, "plain"]
    notes = read_manifest(raw).notes
    assert (notes == []) if named is None else (f"detected encoding of a.txt: {named}" in notes[0])


# The two libraries agree on 20 of these lines; the others are refused with candidates.
DECIDED = ["spanish", "hungarian", "russian", "greek", "hebrew", "arabic", "japanese", "chinese",
           "taiwanese", "korean"]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_encoding_is_detected_correctly_or_not_at_all(language: str) -> None:
    encodings, sentences = LANGUAGES[language]
    long = "\n".join(sentences * 5)
    for encoding in encodings.split():
        for text in [*sentences, *(sentence * 20 for sentence in sentences), long]:
            data = text.encode(encoding, "ignore")
            try:
                found = detected(data, "a.txt")
            except ValueError as error:
                assert "\n" not in str(error)
                assert text is not long or language not in DECIDED
                assert "; it may be " in str(error)
            else:
                assert data.decode(found) == data.decode(encoding), (encoding, found)


def test_noise_and_near_ties_are_not_detected(fetch_it: FetchIt, texts: Path) -> None:
    (texts / "a.txt").write_bytes(b"un caff\xe8 qui")
    with pytest.raises(ValueError, match=r"^a\.txt: the encoding can't .*; it may be .* or cp125"):
        fetch_it(path=str(texts), encoding="auto")
    with pytest.raises(ValueError, match=r"encoding to the file's encoding; it may be .* or cp125"):
        fetch_it(path=str(texts))
    (texts / "a.txt").write_bytes(bytes(range(128, 256)) * 20)
    with pytest.raises(ValueError, match=r"^a\.txt: the encoding can't be detected \(set downl"):
        fetch_it(path=str(texts), encoding="auto")


@pytest.mark.parametrize("encoding", ["iso2022_jp", "iso2022_kr", "hz", "utf-7"])
def test_an_encoding_that_uses_only_ascii_bytes_is_recognised(
    documents: Documents, fetch_it: FetchIt, texts: Path, encoding: str
) -> None:
    of = {"iso2022_jp": "japanese", "iso2022_kr": "korean", "hz": "chinese", "utf-7": "french"}
    text = "\n".join(LANGUAGES[of[encoding]][1])
    (texts / "a.txt").write_bytes(text.encode(encoding))
    advice = rf"set download\.encoding: {encoding}, or auto"
    with pytest.raises(ValueError, match=rf"^a\.txt is not utf-8 text: it looks like .*{advice}"):
        fetch_it(path=str(texts))
    assert documents(path=str(texts), encoding="auto") == [text]
    assert documents(path=str(texts), encoding=encoding) == [text]
    plain = "1 + 2+33+444+555 a~{b} ~{c~} C++ +abc +size \x1b[1mbold\x1b[0m $x+yes+no+why+1 \x1b$"
    (texts / "a.txt").write_text(plain)
    assert documents(path=str(texts), encoding="auto") == documents(path=str(texts)) == [plain]


@pytest.mark.parametrize("language", ["russian", "greek", "arabic", "hebrew", "japanese", "korean"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_of_any_script_is_recognised_without_a_mark(
    documents: Documents, fetch_it: FetchIt, texts: Path, language: str, encoding: str
) -> None:
    text = "\n".join(LANGUAGES[language][1])
    (texts / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=rf"looks like .*; set download\.encoding: {encoding}$"):
        fetch_it(path=str(texts))
    assert documents(path=str(texts), encoding="auto") == [text]


@pytest.mark.parametrize("before", [100, 30_000, 1_500_000])
@pytest.mark.parametrize("appended", [GERMAN, RUSSIAN])
@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_utf16_after_other_text_is_recognised(
    fetch_it: FetchIt, texts: Path, before: int, appended: str, errors: str
) -> None:
    (texts / "a.txt").write_bytes(b"some text\n" * (before // 10) + appended.encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"two encodings.* offset .*UTF-16-LE.* to one enc") as e:
        fetch_it(path=str(texts), errors=errors)
    assert "replace" not in str(e.value)


@pytest.mark.parametrize("first", ["some text in English\n", CHINESE])
@pytest.mark.parametrize("noise", ["random", "NULs", "cp1251"])
def test_binary_data_after_text_is_not_replaced(
    fetch_it: FetchIt, texts: Path, first: str, noise: str
) -> None:
    tail = {"random": random.Random(1).randbytes(50_000), "NULs": bytes(5000)}.get(noise)
    start = first.encode() * (140_000 // len(first.encode()))
    (texts / "a.txt").write_bytes(start + (tail or (RUSSIAN * 20).encode("cp1251")))
    with pytest.raises(ValueError, match=r"^a\.txt ") as e:
        fetch_it(path=str(texts))
    assert "replace" not in str(e.value)
    assert noise == "cp1251" or "binary data" in str(e.value)
    with pytest.raises(ValueError, match=r"^a\.txt, after .* too many to replace"):
        fetch_it(path=str(texts), errors="replace")


@pytest.mark.parametrize(
    "text", ["Grüße aus Köln, schön", "Привет, мир", "só em português é", "日本"]
)
def test_a_file_cut_in_its_last_letter_is_reported_as_cut_short(
    fetch_it: FetchIt, texts: Path, text: str
) -> None:
    data = text.encode()
    (texts / "a.txt").write_bytes(data[:-1] if data[-1] > 127 else data + b"\xc3")
    for encoding in ("utf-8", "auto"):
        with pytest.raises(ValueError, match=r"^a\.txt is cut short in its last character") as e:
            fetch_it(path=str(texts), encoding=encoding)
        assert "download.encoding" not in str(e.value)


def test_a_stray_byte_in_english_suggests_a_western_encoding(
    fetch_it: FetchIt, texts: Path
) -> None:
    line = b'{"text": "some English words in a line"}\n'
    (texts / "a.jsonl").write_bytes(line * 50 + b'{"text": "a caf\xe9 or so"}\n' + line * 50)
    with pytest.raises(ValueError, match=r"set download\.encoding: cp1252, the likely encoding"):
        fetch_it(path=str(texts))


def test_byte_order_marks_of_concatenated_files_are_removed(
    documents: Documents, texts: Path
) -> None:
    one = b"\xef\xbb\xbfone\r\n"
    (texts / "a.txt").write_bytes(one * 3 + "in\ufeffside".encode())
    (texts / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "b"}\n' * 2)
    long = b"x" * (1 << 20)  # a mark at the beginning of the next chunk
    (texts / "c.txt").write_bytes(long[:-1] + b"\n" + one + long + one)
    a, b, c, d = documents(path=str(texts))
    assert a == "one\n" * 3 + "in\ufeffside" and b == c == "b"
    assert d == "x" * (len(long) - 1) + "\none\n" + "x" * len(long) + "\ufeffone\n"


@pytest.mark.parametrize(
    ("text", "encoding"), [(CHINESE, "gb18030"), (RUSSIAN, "cp1251"), (CHINESE, "big5")]
)
def test_replacing_is_not_suggested_for_text_in_another_encoding(
    fetch_it: FetchIt, texts: Path, text: str, encoding: str
) -> None:
    (texts / "a.txt").write_bytes(text.encode(encoding, "ignore"))
    with pytest.raises(
        ValueError, match=r"^a\.txt is not UTF-8: byte .* offset 0 \(set downl"
    ) as e:
        fetch_it(path=str(texts))
    assert "download.encoding: " in str(e.value) and "replace" not in str(e.value)
    with pytest.raises(
        ValueError, match=r"^a\.txt: .* characters are invalid in .* too many to repl"
    ):
        fetch_it(path=str(texts), errors="replace")
    with pytest.raises(ValueError, match=r"^a\.txt is not ascii: byte .* \(set download\.encoding"):
        fetch_it(path=str(texts), encoding="ascii")


@pytest.mark.parametrize("encoding", ["utf-8", "auto"])
def test_a_few_invalid_bytes_may_be_replaced(fetch_it: FetchIt, texts: Path, encoding: str) -> None:
    (texts / "a.txt").write_bytes(CHINESE.encode() + b"\xff" + CHINESE.encode())
    with pytest.raises(ValueError, match=r"not UTF-8: byte 0xff at .*: replace to replace such"):
        fetch_it(path=str(texts), encoding=encoding)


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
def test_utf8_is_not_read_in_another_encoding(
    fetch_it: FetchIt, texts: Path, text: str, encoding: str
) -> None:
    (texts / "a.txt").write_text(text, encoding="utf-8")
    for format in ("auto", "text"):
        with pytest.raises(
            ValueError, match=rf"^a\.txt is not {encoding} text: it looks like UTF-8"
        ):
            fetch_it(path=str(texts), encoding=encoding, format=format)


def test_an_error_names_the_encoding_for_utf16_without_a_mark(
    fetch_it: FetchIt, texts: Path
) -> None:
    (texts / "a.txt").write_bytes("a text".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"\(set download\.encoding: utf-16-le or utf-16-be\)$"):
        fetch_it(path=str(texts), encoding="utf-16")


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16-le"])
def test_replaced_characters_are_counted_by_file(
    documents: Documents, raw: Path, texts: Path, encoding: str
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


@pytest.mark.parametrize(
    "name",
    ["utf-9", "rot13", "hex", "undefined", "idna", "a\0b", "punycode", "unicode_escape", "charmap"],
)
def test_an_unknown_encoding_is_a_settings_error(name: str) -> None:
    with pytest.raises(ValueError, match="must be auto or an encoding that Python knows"):
        download(encoding=name)
    assert download(encoding="UTF8").encoding == "utf-8"


# ----- separators


@pytest.mark.parametrize("setting", ["separator", "document_start"])
def test_a_separator_that_never_occurs_is_reported(
    documents: Documents, raw: Path, texts: Path, setting: str
) -> None:
    (texts / "a.txt").write_text("one\n\ntwo\n\nthree")
    (texts / "b.txt").write_text("four")
    documents(path=str(texts), **{setting: "@@"})
    assert read_manifest(raw).notes == [
        f"warning: download.{setting} = '@@' (2 character(s)) does not occur in 2 text file(s), so "
        "each file is one document"
    ]
    documents(path=str(texts), **{setting: "two"})
    assert read_manifest(raw).notes == []


def test_the_quoting_of_a_separator_with_backslashes_is_explained(
    documents: Documents, raw: Path, texts: Path
) -> None:
    (texts / "a.txt").write_text("one\n\ntwo")
    documents(path=str(texts), separator="\\n\\n")
    (note,) = read_manifest(raw).notes
    assert r"download.separator = '\\n\\n' (4 character(s)) does not occur" in note
    assert note.endswith("""in bash or zsh -S $'download.separator="\\n\\n"'""")
