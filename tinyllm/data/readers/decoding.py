"""Decode bytes to text, and count replaced characters."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator

from tinyllm.data.readers import detecting
from tinyllm.data.readers.detecting import ascii_compatible, encoding_hint, mostly_utf8, wide_part
from tinyllm.data.readers.findings import Findings

WINDOW = 2048  # characters
MOST = WINDOW // 10  # most of these that may be replaced
_MARKS = re.compile("^\ufeff+", re.MULTILINE)


def line_feeds(text: str) -> str:
    """Convert the line endings of every platform to `\\n`, as `decoded` does."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decoded(
    data: Iterable[bytes],
    name: str,
    errors: str,
    encoding: str = "utf-8",
    findings: Findings | None = None,
) -> Iterator[str]:
    """Decode bytes; line endings become `\\n`.

    Byte-order marks at the beginning of a line are removed: files that begin with one may have been
    concatenated.

    Args:
        errors: Python's name of an error handler; the findings count what "replace" replaces.

    Raises:
        ValueError: Bytes are invalid in the encoding and errors is "strict" (the message names the
            byte and its offset), or too many are invalid for a text in this encoding.
    """
    make = codecs.getincrementaldecoder(encoding)
    decoder, newlines = make(errors), io.IncrementalNewlineDecoder(None, translate=True)
    # Decoded without replacement: the text itself may contain U+FFFD too.
    genuine = make("ignore") if errors == "replace" and findings is not None else None
    offset, begins = 0, True  # offset: of the first byte not decoded yet
    last = b""
    for chunk, final in _with_end(data):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final)
        except UnicodeError as error:
            before = last[:-pending] if pending else last
            what = _undecodable(error, name, encoding, offset - pending, before)
            raise ValueError(what) from None
        if genuine is not None and findings is not None:
            own = genuine.decode(chunk, final).count("\ufffd")
            if count := text.count("\ufffd") - own:
                _check_replaced(text, "\ufffd", own, f"{name}, after {offset:,} bytes", encoding)
            findings.replace(name, count)
        offset += len(chunk)
        last = chunk
        text = newlines.decode(text, final)
        if "\ufeff" in text:
            kept = text if begins else f" {text}"
            text = _MARKS.sub("", kept)[0 if begins else 1 :]
        if text:
            begins = text.endswith("\n")
            yield text


def _check_replaced(text: str, mark: str, own: int, where: str, encoding: str) -> None:
    """Check that no window of the text has more than a tenth to replace.

    Args:
        mark: The character that is replaced, or that replaced others.
        own: How many of `mark` the text itself may have.
    """
    if text.count(mark) - own <= MOST:
        return
    for begin in range(0, len(text), WINDOW):
        if (count := text.count(mark, begin, begin + WINDOW) - own) > MOST:
            raise ValueError(
                f"{where} and {begin:,} characters: {count:,} of {WINDOW:,} characters are not "
                f"text in the encoding {encoding}, too many to replace (convert the file to one "
                "encoding, remove binary data, or choose other files with download.files)"
            )


def _with_end(data: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for chunk in data:
        yield chunk, False
    yield b"", True


def text_without_nuls(
    data: Iterable[bytes], name: str, errors: str, encoding: str, findings: Findings
) -> Iterator[str]:
    """Decode bytes as `decoded` does, and refuse or replace NULs, which no text contains.

    Raises:
        ValueError: The file has a NUL and errors is "strict", or UTF-16 follows other text.
    """
    if ascii_compatible(encoding):  # searching bytes is 5 times as fast
        data = _checked(iter(data), name, errors)
        if errors == "strict":
            return decoded(data, name, errors, encoding, findings)
    text = decoded(data, name, errors, encoding, findings)
    return _replaced(text, name, errors, encoding, findings)


def _checked(data: Iterator[bytes], name: str, errors: str) -> Iterator[bytes]:
    offset = 0
    for chunk in data:
        if b"\0" in chunk:
            at = chunk.index(0)
            after = chunk[max(0, at - 1) :] + (next(data, b"") if errors == "strict" else b"")
            after = after[: detecting.WINDOW]
            if (found := wide_part(after)) is not None:
                raise ValueError(two_encodings(name, offset + max(0, at - 1) + found[0], found[1]))
            if errors == "strict":
                raise ValueError(_nul(name, f"at offset {offset + at:,}", after))
        offset += len(chunk)
        yield chunk


def two_encodings(name: str, offset: int, encoding: str) -> str:
    """Return the error for a file in which UTF-16 follows other text."""
    return (
        f"{name} is text in two encodings: after about offset {offset:,} it is "
        f"{encoding.upper()}, which PowerShell's >> appends; convert the file to one encoding"
    )


def _replaced(
    text: Iterable[str], name: str, errors: str, encoding: str, findings: Findings
) -> Iterator[str]:
    characters = 0
    for chunk in text:
        if "\0" in chunk:
            where = f"as character {characters + chunk.index(chr(0)):,}"
            if errors == "strict":
                after = chunk[chunk.index("\0") :][: detecting.WINDOW]
                raise ValueError(_nul(name, where, after.encode("utf-8", "ignore")))
            _check_replaced(chunk, "\0", 0, f"{name}, after {characters:,}", encoding)
            findings.replace(name, chunk.count("\0"))
            chunk = chunk.replace("\0", "\ufffd")
        characters += len(chunk)
        yield chunk


def _nul(name: str, where: str, after: bytes) -> str:
    if after.count(0) >= 8 or detecting.is_binary(after):
        return (
            f"{name} contains binary data from a NUL on, {where} ({detecting.controls(after):,} of "
            f"{len(after):,} bytes are NULs or control characters); remove it, or choose other "
            "files with download.files"
        )
    return (
        f"{name} has a NUL {where}, which is not text (set download.encoding if it is wrong, "
        "or download.errors: replace to replace NULs by U+FFFD)"
    )


def _undecodable(error: UnicodeError, name: str, encoding: str, start: int, before: bytes) -> str:
    shown = "UTF-8" if encoding == "utf-8" else encoding
    if not isinstance(error, UnicodeDecodeError):
        more = f" (set download.encoding: {encoding}-le or {encoding}-be)"
        return f"{name} is not {shown}: {error}" + (more if "BOM" in str(error) else "")
    data, at = error.object, error.start
    position = f"byte {data[at]:#04x} at offset {start + at:,}"
    what = f"{name} is not {shown}: {position}"
    replace = "set download.errors: replace to replace such bytes by U+FFFD"
    after = data[at:][: detecting.WINDOW]
    if detecting.is_binary(after):
        return f"{what} begins binary data (remove it, or choose other files with download.files)"
    many = _many_invalid(after, encoding)
    if encoding != "utf-8":
        more = "" if many else f", or {replace}"
        return f"{what} (set download.encoding to the file's encoding{more})"
    if error.reason == "unexpected end of data":
        # It may be the file's only non-ASCII letter.
        alone = len(data) - at == 1 and before.isascii()
        other = f"; or set {encoding_hint(before + data)}" if alone else ""
        return (
            f"{name} is cut short in its last character: {position} "
            f"(download it again{other}; {replace})"
        )
    sample = data[max(0, at - detecting.SAMPLE // 2) : at + detecting.SAMPLE // 2]
    if many and mostly_utf8(data[:at]):
        more = "convert the file to one encoding"
        what += " begins text in another encoding"
    elif mostly_utf8(sample):
        more = replace
    else:
        few = sample.decode("utf-8", "replace").count("\ufffd") < 5
        more = f"set {encoding_hint(sample)}" + (f"; {replace}" if few else "")
    return f"{what} ({more})"


def _many_invalid(data: bytes, encoding: str) -> bool:
    text = data.decode(encoding, "replace")
    return (count := text.count("\ufffd")) >= 20 and count > 0.1 * len(text)
