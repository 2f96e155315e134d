"""Records of JSON, CSV and Parquet; nested text; invalid records are counted."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.data.readers.packed import COMPRESS, as_csv, as_jsonl, as_parquet, tarred, zipped
from tests.data.sources.conftest import Documents
from tests.helpers import encode, make_documents
from tinyllm.common.files import read_json
from tinyllm.data.readers import csv_records, json_records, records
from tinyllm.data.readers.raw_folder import Manifest, read_manifest, read_pieces
from tinyllm.data.tokenize import corpus_report
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.settings.tokenize import Tokenize

FetchIt = Callable[..., Manifest]
RECORDS: list[dict[str, Any]] = [
    {"id": 1, "text": "one\ntwo ä 😀"},
    {"id": 2, "text": 'three, "quoted"'},
    {"text": "ü"},
]
TEXTS = [str(record["text"]) for record in RECORDS]
PRETTY = b'{\n  "id": 1,\n  "text": "one"\n}\n{\n  "text": "two"\n}\n'


def array(items: list[Any]) -> bytes:
    return b"[" + b",\n ".join(as_jsonl([item]).strip() for item in items) + b"\n]\n"


@pytest.mark.parametrize("packing", COMPRESS)
@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("a.json", as_jsonl(RECORDS), TEXTS),
        ("a.json", array(RECORDS), TEXTS),
        ("a.jsonl", array(RECORDS), TEXTS),
        ("a.json", PRETTY, ["one", "two"]),
        ("a.json", b'{"id": 1, "text": "a"}', ["a"]),
        ("a.json", b'{\n"text": "a"\n}', ["a"]),
        ("a.json", b'{"text": "a"} {"text": "b"}{"text": "c"}', ["a", "b", "c"]),
        ("a.json", b'{"text": "a"}{"text": "b"}\n{"text": "c"}\n', ["a", "b", "c"]),
        ("a.json", array(["a text", "another"]), ["a text", "another"]),
        ("a.csv", as_csv([["id", "text"], *([str(i), t] for i, t in enumerate(TEXTS))]), TEXTS),
        ("a.tsv", as_csv([["text", "id"], *([t, "0"] for t in TEXTS)], "\t"), TEXTS),
        ("a.csv", as_csv([["id", "text"], ["1", "half; of"]], ";"), ["half; of"]),
        ("a.csv", b'\xef\xbb\xbftext\r\none\r\n\r\n"two\r\nlines"', ["one", "two\nlines"]),
    ],
)
def test_records_of_every_format_are_read(
    documents: Documents, texts: Path, name: str, data: bytes, found: list[str], packing: str
) -> None:
    (texts / f"{name}{packing}").write_bytes(COMPRESS[packing](data))
    assert documents(path=str(texts)) == found


def test_an_archive_of_one_table(documents: Documents, texts: Path) -> None:
    data = as_csv([["text"], *([text] for text in TEXTS)])
    (texts / "a.zip").write_bytes(zipped([("data/a.csv", data)]))
    (texts / "b.tar.gz").write_bytes(COMPRESS[".gz"](tarred([("data/a.csv", data)])))
    assert documents(path=str(texts / "a.zip")) == TEXTS
    assert documents(path=str(texts)) == TEXTS * 2


@pytest.mark.parametrize("indent", [b"", b"\n  "])
def test_elements_of_an_array_are_found_across_chunks(
    documents: Documents, texts: Path, monkeypatch: pytest.MonkeyPatch, indent: bytes
) -> None:
    found = [('ab\\"{}[],:é😀\ud83d' * n).replace("\ud83d", "") for n in range(1, 40)]
    items = [
        b'{"n": 123456789.5e3,' + indent + b'"text":' + as_jsonl([text]).strip() + b"}"
        for text in found
    ]
    (texts / "a.json").write_bytes(b"[" + b" , ".join(items) + b"]")
    for size in (1, 7, 64):
        monkeypatch.setattr("tinyllm.data.readers.compression.CHUNK", size)
        monkeypatch.setattr("tinyllm.data.readers.evidence.HEAD", size)
        assert documents(path=str(texts), format="json") == found


def test_a_record_must_fit_in_memory(
    fetch_it: FetchIt, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (records, csv_records, json_records):
        monkeypatch.setattr(module, "LONGEST", 1 << 21)
    for name, begin in {
        "a.json": b'[{"text": "',
        "a.jsonl": b'{"text": "',
        "a.csv": b'text\n"',
    }.items():
        path = texts / name
        path.write_bytes(
            begin + b"a long text\n" * (1 << 20) if name == "a.csv" else begin + b"x" * (1 << 23)
        )
        with pytest.raises(
            ValueError, match=rf"^{name}.*(More|more) than 2 MB|^{name}, line 2: .*quote"
        ):
            fetch_it(path=str(path))


# ----- a single object that contains all records


SQUAD = {"data": [{"paragraphs": [{"context": "a"}, {"context": "b"}]}, {"paragraphs": []},
                  {"paragraphs": [{"context": "c", "qas": []}]}], "version": "2"}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("records", "field", "record", "found"),
    [
        ("data", "text", {"data": [{"text": "a"}, {"text": "b"}]}, ["a", "b"]),
        ("data[].paragraphs", "context", SQUAD, ["a", "b", "c"]),
        ("data", "m[].t", {"data": [{"m": [{"t": "a"}, {"t": "b"}]}]}, ["a\n\nb"]),
    ],
)
def test_records_in_the_only_object_of_a_json_file_are_read(
    documents: Documents, texts: Path, records: str, field: str, record: dict[str, Any],
    found: list[str], indent: int | None,
) -> None:  # fmt: skip
    (texts / "a.json").write_text(json.dumps(record, indent=indent))
    assert documents(path=str(texts), field=field, records=records) == found


@pytest.mark.parametrize("indent", [None, 2])
def test_joined_texts_of_a_single_object_are_reported(
    documents: Documents, raw: Path, texts: Path, indent: int | None
) -> None:
    (texts / "a.json").write_text(json.dumps({"text": ["a", "b"], "id": [1, 2]}, indent=indent))
    assert documents(path=str(texts)) == ["a\n\nb"]
    (note,) = read_manifest(raw).notes
    assert "a.json: 2" in note and "download.records" in note


@pytest.mark.parametrize(
    ("content", "records", "message"),
    [
        ('{"data": [1]}', "rows", "a.json: download.records = 'rows': has no 'rows', but 'data'"),
        (
            '{"data": {"a": 1}}',
            "data",
            "a.json: download.records = 'data': is an object, not a list",
        ),
        ('{"text": "a"}\n{"text": "b"}\n', "data", "download.records: applies to JSON files"),
    ],
)
def test_a_wrong_path_of_records_is_explained(
    fetch_it: FetchIt, texts: Path, content: str, records: str, message: str
) -> None:
    (texts / "a.json").write_text(content)
    with pytest.raises(ValueError) as raised:
        fetch_it(path=str(texts), records=records)
    assert message in str(raised.value)


def test_invalid_records_of_a_single_object_can_be_skipped(
    documents: Documents, fetch_it: FetchIt, texts: Path
) -> None:
    record = {"data": [{"text": "a"}, {"id": 2}, {"text": None}, {"text": "b"}]}
    (texts / "a.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"a\.json, record 2: has no 'text'"):
        fetch_it(path=str(texts), records="data")
    assert documents(path=str(texts), records="data", on_invalid="skip") == ["a", "b"]


# ----- fields


MESSAGES = {"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "ok"}]}


@pytest.mark.parametrize(
    ("field", "record", "text"),
    [
        ("data.text", {"data": {"text": "in"}}, "in"),
        ("translation.en", {"translation": {"de": "aus", "en": "out"}}, "out"),
        ("messages[].content", MESSAGES, "Hi\n\nok"),
        ("paragraphs", {"paragraphs": ["one", "two"]}, "one\n\ntwo"),
        ("a[].b[].c", {"a": [{"b": [{"c": "1"}, {"c": "2"}]}, {"b": [{"c": "3"}]}]}, "1\n\n2\n\n3"),
        ("a[].b", {"a": [{"b": ["1", "2"]}, {"b": ["3"]}]}, "1\n\n2\n\n3"),
        ("data.text", {"data.text": "spelt so", "data": {"text": "in"}}, "spelt so"),
        ("meta.v1.text", {"meta.v1": {"text": "partly"}}, "partly"),
        ("text[]", {"text[]": "spelt so", "text": ["in"]}, "spelt so"),
    ],
)
def test_a_field_may_be_nested(
    documents: Documents, texts: Path, field: str, record: dict[str, Any], text: str
) -> None:
    (texts / "a.jsonl").write_bytes(as_jsonl([record]))
    assert documents(path=str(texts), field=field) == [text]
    (texts / "a.jsonl").unlink()
    (texts / "a.parquet").write_bytes(as_parquet_of([record]))
    assert documents(path=str(texts), field=field) == [text]


def as_parquet_of(rows: list[dict[str, Any]]) -> bytes:
    return as_parquet(pa.array([next(iter(row.values())) for row in rows]), next(iter(rows[0])))


@pytest.mark.parametrize(
    ("field", "record", "message"),
    [
        (
            "data.body",
            {"data": {"text": "a", "id": 1}},
            "its 'data' has no 'body', but 'text', 'id'; set download",
        ),
        (
            "messages.content",
            MESSAGES,
            r"its 'messages' is a list, not an object; write messages\[\] to read each",
        ),
        (
            "messages",
            MESSAGES,
            r"its 'messages' contains an object, with 'role', 'content'; to read one",
        ),
        ("messages[].content", {"messages": "Hi"}, "its 'messages' is text, not a list"),
        ("messages[].content", {"messages": [{"content": None}]}, "contains null, not text"),
        ("data", {"data": {"text": "a"}}, "its 'data' is an object, with 'text', not text"),
        ("data.text", {"data": 5}, "its 'data' is a number, not an object"),
        ("text", {"text": True}, "its 'text' is true or false, not text"),
    ],
)
def test_a_value_that_is_not_text_is_described(
    fetch_it: FetchIt, texts: Path, field: str, record: dict[str, Any], message: str
) -> None:
    (texts / "a.jsonl").write_bytes(as_jsonl([record]))
    with pytest.raises(ValueError, match=rf"^a\.jsonl, line 1: .*{message}.* \(set download.fil"):
        fetch_it(path=str(texts), field=field)


def test_an_error_about_a_large_record_is_short(fetch_it: FetchIt, texts: Path) -> None:
    for name, data in {
        "a.csv": as_csv([["x" * 100_000, "y" * 100_000]]),
        "a.jsonl": as_jsonl([{"x" * 100_000: 1}]),
        "a.parquet": as_parquet(pa.array(["a"]), "x" * 100_000),
    }.items():
        (texts / name).write_bytes(data)
        with pytest.raises(ValueError, match=r"x\.\.\.'.*; set download\.field to") as caught:
            fetch_it(path=str(texts / name))
        assert len(str(caught.value)) < 300


# ----- columns


@pytest.mark.parametrize("kind", ["string", "binary"])
@pytest.mark.parametrize("shape", ["", "large_", "_view", "dictionary"])
def test_columns_of_every_kind_of_text(
    documents: Documents, texts: Path, kind: str, shape: str
) -> None:
    name = f"{shape}{kind}" if shape == "large_" else f"{kind}{shape}"
    array = pa.array(TEXTS)
    if shape == "dictionary":
        array = array.cast(getattr(pa, kind)()).dictionary_encode()
    else:
        array = array.cast(getattr(pa, name)())
    (texts / "a.parquet").write_bytes(as_parquet(array))
    assert documents(path=str(texts)) == TEXTS
    (texts / "a.parquet").write_bytes(
        as_parquet(pa.array([{"b": text} for text in TEXTS], pa.struct({"b": getattr(pa, kind)()})))
    )
    assert documents(path=str(texts), field="text.b") == TEXTS


def test_a_column_of_bytes_is_decoded_with_the_set_encoding(
    documents: Documents, texts: Path
) -> None:
    (texts / "a.parquet").write_bytes(as_parquet(pa.array(["你好".encode("gbk")])))
    assert documents(path=str(texts), encoding="gbk") == ["你好"]


# ----- invalid records


INVALID: dict[str, tuple[bytes, list[str]]] = {
    "a.jsonl": (
        b'{"text": "good"}\n{"text": null}\n{"id": 1}\n{"text": 5}\n{"text": \n[1]\n'
        b'{"text": "\\ud800"}\n{"text": "\xff"}\n{"text": "good too"}\n',
        [
            "line 2: its 'text' is null",
            "line 3: has no 'text', but 'id'",
            "line 4: its 'text' is a number",
            "line 5: is not JSON: Expecting value",
            "line 6: is a list",
        ],
    ),
    "a.json": (
        b'[{"text": "good"}, {"text": null}, {"id": 1}, 7, {"text": "\\udfff"},'
        b' {"text": "good too"}]',
        [
            "record 2: its 'text' is null",
            "record 3: has no 'text'",
            "record 4: is a number",
            "record 5: contains half",
        ],
    ),
    "a.csv": (
        b'id,text\n1,good\n2\n3,"a"b\n4,too,many\n5,\xff\n6,good too\n',
        [
            "line 3: has 1 field",
            "line 4: is not CSV: ",
            "line 5: has 3 field",
            "line 6: contains bytes of another encoding",
        ],
    ),
    "a.parquet": (
        as_parquet(pa.array([b"good", None, b"\xff", b"good too"]).view(pa.string())),
        ["row 2: its 'text' is null", "row 3: is not UTF-8: byte 0xff at offset 0"],
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_records_are_skipped_and_counted(
    documents: Documents, raw: Path, texts: Path, name: str
) -> None:
    data, reasons = INVALID[name]
    (texts / name).write_bytes(data)
    assert documents(path=str(texts), on_invalid="skip") == ["good", "good too"]
    manifest = read_manifest(raw)
    count = 7 if name == "a.jsonl" else len(reasons)
    assert manifest.skipped == count
    (note,) = manifest.notes
    assert note.startswith(f"{count} invalid record(s) skipped: {name}, ")
    for reason in reasons:
        assert f"{name}, {reason}" in note


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_record_is_an_error_that_names_the_setting_to_skip_it(
    fetch_it: FetchIt, texts: Path, name: str
) -> None:
    data, reasons = INVALID[name]
    (texts / name).write_bytes(data.replace(b"\xff", b"") if name != "a.parquet" else data)
    help_ = r".* \(set download\.on_invalid: skip to skip such records\)$"
    with pytest.raises(ValueError, match=f"^{name}, {reasons[0]}{help_}"):
        fetch_it(path=str(texts))


def test_a_missing_closing_quote_is_an_error(fetch_it: FetchIt, texts: Path) -> None:
    (texts / "a.csv").write_bytes(b'text\ngood\n"opened\nlost\nlost\n')
    with pytest.raises(
        ValueError, match=r"^a\.csv, line 3: is not CSV: .*closing quote may be missing"
    ):
        fetch_it(path=str(texts), on_invalid="skip")
    (texts / "a.csv").write_bytes(b"body\nno such column\n")
    with pytest.raises(ValueError, match=r"^a\.csv: has no column 'text', but 'body'; set downl"):
        fetch_it(path=str(texts), on_invalid="skip")


def test_choosing_other_files_is_suggested_if_no_record_is_valid(
    fetch_it: FetchIt, texts: Path
) -> None:
    (texts / "data.jsonl").write_bytes(as_jsonl(RECORDS))
    (texts / "dataset_infos.json").write_bytes(b'{"default": {"features": {}}}')
    with pytest.raises(
        ValueError, match=r"but 'default'; .* \(set download\.files to choose other"
    ):
        fetch_it(path=str(texts))


def test_an_ordinary_quote_in_tsv_does_not_join_lines(
    fetch_it: FetchIt, documents: Documents, texts: Path
) -> None:
    (texts / "a.tsv").write_bytes(b'id\ttext\n1\tgood\n2\t"Hello\n3\tlost\n4\tbye"\n')
    with pytest.raises(ValueError, match=r"^a\.tsv, line 3: the text between a quote in it and"):
        fetch_it(path=str(texts), on_invalid="skip")
    assert documents(path=str(texts), format="csv") == ["good", "Hello\n3\tlost\n4\tbye"]


def test_an_error_says_why_all_records_were_skipped(fetch_it: FetchIt, texts: Path) -> None:
    (texts / "a.jsonl").write_bytes(as_jsonl([{"body": "a"}] * 9))
    with pytest.raises(
        ValueError, match=r"is empty: .*9 invalid record\(s\) skipped: .* but 'body'"
    ):
        fetch_it(path=str(texts), on_invalid="skip")


# ----- the manifest


def test_the_manifest_of_ordinary_files_has_no_extra_keys(
    documents: Documents, raw: Path, texts: Path
) -> None:
    (texts / "a.txt").write_text("a text")
    documents(path=str(texts))
    text = (raw / "manifest.json").read_text()
    assert not any(word in text for word in ("skipped", "replaced", "notes", "encoding", "on_inv"))


def test_the_corpus_report_contains_the_findings(
    fetch_it: FetchIt, raw: Path, texts: Path, tmp_path: Path
) -> None:
    good = [{"text": text} for text in make_documents(99, 1)]
    (texts / "a.jsonl").write_bytes(as_jsonl([*good, {"text": None}, {"text": "\ud800"}]))
    manifest = fetch_it(path=str(texts), on_invalid="skip", errors="replace")
    tokenizer = Tokenizer.train(make_documents(99, 1), 300)
    found, totals = encode(lambda: read_pieces(raw), tokenizer, tmp_path / "a")
    content = corpus_report.summary(found, totals, tokenizer, manifest)
    corpus_report.write(tmp_path / "report", content, totals)
    written = read_json(tmp_path / "report/corpus.json")
    assert (written["records_skipped"], written["characters_replaced"]) == (1, 1)
    settings = Tokenize(encoding="bpe", vocab_size=320, sample_bytes=None)
    for note in manifest.notes:
        assert note in (tmp_path / "report/corpus.md").read_text()
        assert note in corpus_report.lines(content, settings)
    assert len(manifest.notes) == 2


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"te', "line 2: is not JSON: Unterminated string at col"),
        ("a.jsonl", b'["a"]\n["b"]\n', "line 1: is a list, not a JSON object "),
        ("a.jsonl", b'[1, "a"]\n[2, "b"]\n', "line 1: is a list, not a JSON object "),
        ("a.json", b'[{"text": "a"}, {"text": ', "record 2: .*: Expecting value; the file ends"),
        ("a.json", b'[{"text": "a"}, {"text": "', "record 2: .*: Unterminated string; the file"),
        ("a.json", b'[{"text": "a"}', "record 2: .*: Expecting ',' delimiter; the file ends"),
    ],
)  # fmt: skip
def test_errors_in_json_are_explained(
    fetch_it: FetchIt, texts: Path, name: str, data: bytes, message: str
) -> None:
    (texts / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{re.escape(name)}, {message}"):
        fetch_it(path=str(texts))


@pytest.mark.parametrize(
    ("name", "data", "skip"),
    [
        ("a.json", b'{"body": "a"}', False),
        ("a.jsonl", as_jsonl([{"body": "a"}, {"body": "b"}]), False),
        ("a.jsonl", b"some\ntext\n", False),
        ("a.csv", b"id,text\n1\n2\n", False),
        ("a.parquet", as_parquet(pa.array([None, None])), False),
        ("a.jsonl", as_jsonl([{"text": None}, {"text": "b"}]), True),
        ("a.jsonl", as_jsonl([{"text": "b"}, {"text": None}]), True),
        ("a.csv", b"id,text\n1\n2,b\n", True),
        ("a.parquet", as_parquet(pa.array([None, "b"])), True),
    ],
)
def test_skipping_is_suggested_only_if_valid_records_remain(
    fetch_it: FetchIt, texts: Path, name: str, data: bytes, skip: bool
) -> None:
    (texts / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"^{name}, ") as caught:
        fetch_it(path=str(texts))
    assert ("on_invalid" in str(caught.value)) == skip
    assert ("download.files" in str(caught.value)) != skip
