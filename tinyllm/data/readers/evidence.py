"""Recognise files that are evidently not text by their first bytes."""

import codecs
import json
import re
from functools import cache
from typing import Literal, NamedTuple

from tinyllm.data.readers.detecting import (
    BOMS,
    ascii_compatible,
    controls,
    encoding_hint,
    escaped,
    is_binary,
    is_utf8,
    wide,
    wide_part,
)
from tinyllm.data.readers.layout import Layout
from tinyllm.data.readers.markup import html_fragment

HEAD = 1 << 16  # bytes examined
_UNPACK = "unpack it first"
_CONVERT = "convert it to text first"
_RENAME = "unpack it first, or rename it to end in {}"
_CHOOSE = "choose other files with download.files"
_EXPORT = "export its texts as JSON Lines, CSV or Parquet first"


class Kind(NamedTuple):
    """What a file looks like, the evidence, and what the user can do."""

    what: str
    seen: str
    advice: str

    def __str__(self) -> str:
        return f"it looks like {self.what} ({self.seen}); {self.advice}"


# Signatures: the pattern, what it is, what to do.
BINARY: list[tuple[bytes, str, str]] = [
    (rb"\x1f\x8b\x08", "gzip-compressed data", _RENAME.format(".gz")),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "bzip2-compressed data", _RENAME.format(".bz2")),
    (rb"\xfd7zXZ\0", "xz-compressed data", _RENAME.format(".xz")),
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "zstd-compressed data", _RENAME.format(".zst")),
    (rb"\x1f\x9d|\x04\x22\x4d\x18|LZIP\x01|\x5d\0\0|\xff\x06\0\0sNaPpY", "compressed data",
     _UNPACK),
    (rb"PK\x03\x04.{26,60}(word/|xl/|ppt/|\[Content_Types\])", "an Office document", _CONVERT),
    (rb"PK\x03\x04.{26}mimetypeapplication/epub", "an EPUB book", _CONVERT),
    (rb"PK\x03\x04.{26}mimetype", "an OpenDocument file", _CONVERT),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive", _RENAME.format(".zip")),
    (rb".{257}ustar(\0|  \0)", "a tar archive", _RENAME.format(".tar")),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|MSCF\0|!<arch>\n|xar!\0", "an archive", _UNPACK),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", _CONVERT),
    (rb"AT&TFORM.{4}DJV", "a DjVu document", _CONVERT),
    (rb"PAR1.{0,16}[\0-\x08\x0e-\x1f]", "a Parquet file", "set download.format: parquet, "
     "or rename it to end in .parquet"),
    (rb"ARROW1\0\0|FEA1|ORC.*\0|Obj\x01|\x89HDF\r\n\x1a\n|\x93NUMPY|.{8}DUCK.\0{7}",
     "a file of tables or arrays", _EXPORT),
    (rb"SQLite format 3\0", "an SQLite database", _EXPORT),
    (rb"\x80[\x02-\x05].*\0", "a Python pickle", _EXPORT),
    (rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a.{0,6}\0|II\*\0|MM\0\*|RIFF.{4}WEBP|8BPS\0|BM.{4}\0\0\0\0",
     "an image", _CHOOSE),
    (rb"\0\0\0.ftyp|RIFF.{4}(WAVE|AVI )|OggS\0|fLaC\0|ID3[\x02-\x04]\0|\x1a\x45\xdf\xa3",
     "audio or video", _CHOOSE),
    (rb"\x7fELF|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe|\xca\xfe\xba\xbe|MZ.*\0|\0asm",
     "a program", _CHOOSE),
    (rb"GGUF.\0\0\0|.{6}\0\0\{\"", "weights of a model", _CHOOSE),
    (rb"bplist0\d", "a property list", _CHOOSE),
]  # fmt: skip
_START = r"\s*(?><!--.*?-->\s*)*+"
_ROOTS = (
    "<(mediawiki|TEI|TEI.2|teiCorpus|rss|feed|rdf:RDF|ListBucketResult|urlset|sitemapindex|opml)"
)
# Atomic groups: backtracking over n comments would take 2**n steps.
# Text that stands for something else. `download.format: text` reads it as it is.
TEXTUAL: list[tuple[str, str, str]] = [
    (r"version https://git-lfs\.github\.com/", "a git-lfs pointer, not the file itself",
     "run `git lfs pull` in its repository"),
    (r"(\.git/annex|/annex)/objects/|(\.\./)*\.git/annex/objects/",
     "a git-annex pointer, not the file itself", "run `git annex get` in its repository"),
    (r"outs:\n- md5: [0-9a-f]{32}\n", "a DVC pointer, not the file itself", "run `dvc pull`"),
    (r"\s*(<\?xml[^>]*\?>\s*)?(?><!--.*?-->\s*)*+<(!doctype\s+html|html)[\s>]", "an HTML page",
     "open its address in a browser, and extract the text"),
    (r"\s*(<\?xml[^>]*\?>\s*)?<Error>\s*<Code>", "an error message of a file store",
     "open its address in a browser"),
    (r"\s*(<\?xml[^>]*\?>\s*)?(?><!--.*?-->\s*)*+(<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]",
     "an SVG picture", _CHOOSE),
    (rf"{_START}(<\?xml\s+version|<[a-z][\w:.-]*\s[^<>]*\bxmlns(:[\w-]+)?\s*=|{_ROOTS}[^<>]*>\s*<\w)",
     "XML", "extract the text first"),
    (r"\s*%PDF-\d", "a PDF document", _CONVERT),
    (r"\s*\{\\rtf\d", "an RTF document", _CONVERT),
    (r"\s*%!PS", "a PostScript document", _CONVERT),
    (r"WARC/\d\.\d\r?\n", "a web archive (WARC)", "extract the text of its pages first"),
    (r"(From \S+ [^\n]*\n|(Return-Path|Received|Delivered-To|MIME-Version|Message-ID|Date|From|To|"
     r"Subject|X-[\w-]+): ).*?\nContent-Transfer-Encoding:\s*base64\b",
     "mail with encoded contents", "export the texts of its messages as JSON Lines first"),
    (r"begin [0-7]{3,4} [^\n]+\n(M[ -`]{60}\r?\n|[!-L][ -`]{4,60}\r?\n`?[ \r]*\n?end\b)|"
     r"begin-base64 \d|=ybegin line=\d|-----BEGIN (PGP|CERT|RSA|PRIVATE|ENCRYPTED)[ A-Z]*-----",
     "encoded or encrypted data", "decode it first"),
    (r"\([ld]p?[01]\n|c(copy_reg|copyreg|__builtin__|builtins)\n\w+\n|\(?[VS][^\n]*\np[01]\n",
     "a Python pickle", _EXPORT),
    (r"\s*(error:? )?([45]\d\d:? )?((entry|file|page|repository|repo|object)? ?not found|"
     r"access denied|forbidden|unauthorized|bad request|bad gateway|internal server error|service "
     r"unavailable|gateway time-?out|too many requests|invalid username or password)\.?\s*\Z",
     "an error message of a server", "open its address in a browser"),
]  # fmt: skip
_STRING = r'"(?:[^"\\\n]|\\.)*+"\s*'
JSON = rf'\{{\s*{_STRING}:|\[\s*\{{\s*{_STRING}:|\[\s*{_STRING}(,\s*"|\]\s*\Z)'


def check_signature(head: bytes, name: str) -> None:
    """Check that a file does not begin with a signature that no text has, in any encoding.

    Raises:
        ValueError: It does. The message says what the file looks like and what to do.
    """
    head = head[:HEAD]
    kind = binary(head)
    if kind is None and controls(head):  # for example a PDF document
        kind = textual(head.decode("ascii", "ignore"))
    _refuse(kind, name)


def check_text(head: bytes, name: str, layout: Layout, encoding: str, named_text: bool) -> None:
    """Check the beginning of a file that will be decoded.

    Args:
        named_text: Whether the file's name says that it is plain text.

    Raises:
        ValueError: The file is evidently not text, or in another encoding. The message says what it
            looks like, why, and what to do.
    """
    head = head[:HEAD]
    _refuse(_other_encoding(head, encoding), name, what=f"is not {encoding} text")
    replaced = head.decode(encoding, "replace")
    text = head.decode(encoding, "ignore") if "\ufffd" in replaced else replaced
    text = text.removeprefix("\ufeff")
    kind = textual(text)
    plain = head
    if not ascii_compatible(encoding) or _family(encoding) == "iso2022":
        plain = head.decode(encoding, "ignore").encode("utf-8", "ignore")
    elif (found := wide_part(head)) is not None:
        seen = f"after about offset {found[0]:,} it is {found[1].upper()}"
        advice = "PowerShell's >> appends it; convert the file to one encoding"
        _refuse(Kind("text in two encodings", seen, advice), name)
    count, size = controls(plain), len(plain)
    if count and is_binary(plain):
        seen = f"{count:,} of its first {size:,} bytes are control characters"
        _refuse(kind or Kind("binary data", seen, _CHOOSE), name)
    flawed = count > 0 or "\ufffd" in replaced[:-1]
    if layout.errors == "replace":
        _check_replaced(head, name, encoding)
    if layout.format == "auto" and named_text:
        kind = kind or _json(text)
    if layout.format != "text" or flawed:
        more = "; or set download.format: text to read it as it is"
        _refuse(kind, name, "" if flawed else more)


@cache
def _any_binary() -> re.Pattern[bytes]:
    """All binary signatures in one pattern: a corpus may be many small files."""
    return re.compile(b"|".join(b"(?:%s)" % pattern for pattern, *_ in BINARY), re.DOTALL)


@cache
def _any_textual() -> re.Pattern[str]:
    patterns = "|".join(f"(?:{pattern})" for pattern, *_ in TEXTUAL)
    return re.compile(patterns, re.DOTALL | re.IGNORECASE)


def _check_replaced(head: bytes, name: str, encoding: str) -> None:
    """Raise ValueError if more than a tenth would be replaced: the encoding is wrong."""
    text = head.decode(encoding, "replace")
    count = text.count("\ufffd") - head.decode(encoding, "ignore").count("\ufffd")
    if count >= 64 and count > 0.1 * len(text):
        raise ValueError(
            f"{name}: {count:,} of its first {len(text):,} characters are invalid in the encoding "
            f"{encoding}, too many to replace (set {encoding_hint(head)})"
        )


def _refuse(kind: Kind | None, name: str, more: str = "", what: str = "is not text") -> None:
    if kind is not None:
        raise ValueError(f"{name} {what}: {kind}{more}")


def binary(head: bytes) -> Kind | None:
    """Return what a file is, by a signature."""
    if not _any_binary().match(head):  # the usual case
        return None
    for pattern, what, advice in BINARY:
        if found := re.match(pattern, head, re.DOTALL):
            return Kind(what, f"it begins with {found[0][:16]!r}", advice)
    return None


def textual(text: str) -> Kind | None:
    """Return what a text stands for, by its beginning."""
    if _any_textual().match(text):
        for pattern, what, advice in TEXTUAL:
            if found := re.match(pattern, text, re.DOTALL | re.IGNORECASE):
                return Kind(what, f"it begins with {found[0].strip()[:40]!r}", advice)
    if tag := html_fragment(text):
        return Kind("part of an HTML page", f"it begins with {tag!r}", "extract the text")
    return None


def _other_encoding(head: bytes, encoding: str) -> Kind | None:
    """Return the encoding of a file if it evidently differs from the settings."""
    name = codecs.lookup(encoding).name
    if not name.startswith("utf-8") and is_utf8(head):
        # Not one in a million texts in other encodings has eight characters that are valid UTF-8.
        beyond_ascii = sum(not c.isascii() for c in head[:4096].decode("utf-8", "ignore"))
        of_ascii = len(head) >= 16 and 0 not in head and not ascii_compatible(encoding)
        if beyond_ascii >= 8 or of_ascii:
            return Kind(
                "UTF-8 text", "all bytes are valid", "set download.encoding: utf-8, or auto"
            )
    if not ascii_compatible(encoding):
        return None
    for mark, name in BOMS[1:]:
        if head.startswith(mark):
            seen = f"it begins with the byte-order mark {mark!r}"
            return Kind(f"{name.upper()} text", seen, f"set download.encoding: {name}")
    if found := wide(head):
        seen = "its bytes come in pairs"
        return Kind(f"{found.upper()} text", seen, f"set download.encoding: {found}")
    if (found := escaped(head)) and _family(encoding) != _family(found):
        seen = "it contains the escape sequences of this encoding"
        return Kind(f"{found.upper()} text", seen, f"set download.encoding: {found}, or auto")
    return None


def _family(encoding: str) -> str:
    return codecs.lookup(encoding).name.split("_")[0]


def json_format(text: str) -> Literal["jsonl", "json"] | None:
    """Return which JSON a text is by its beginning: lines, or an array or object over lines."""
    text = text.removeprefix("\ufeff").lstrip()
    if not re.match(JSON, text):
        return None
    if text.startswith("["):
        return "json"
    first, line_end, _ = text.partition("\n")
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        if line_end:  # otherwise the sample ends here
            return "json" if error.pos >= len(first.rstrip()) else None
    except (ValueError, RecursionError):
        return None
    return "jsonl"


def _json(text: str) -> Kind | None:
    if (format := json_format(text)) is None:
        return None
    seen = f"it begins with {text.strip()[:20]!r}"
    return Kind("JSON", seen, f"set download.format: {format} to read its records")


def instead(head: bytes) -> Kind | None:
    """Return what a file is that has the name of an archive or Parquet file, but not its format."""
    return binary(head[:HEAD]) or textual(head[:HEAD].decode("utf-8", "ignore"))
