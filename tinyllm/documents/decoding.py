"""Decode bytes to text, detect encodings, and count what is replaced."""

import codecs
import io
from collections.abc import Iterable, Iterator

from tinyllm.documents.findings import Findings

SAMPLE = 1 << 17  # bytes by which an encoding is detected
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def line_feeds(text: str) -> str:
    """A text with the line ends of every platform made `\\n`, as `decoded` makes them."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decoded(
    data: Iterable[bytes],
    name: str,
    errors: str,
    encoding: str = "utf-8",
    findings: Findings | None = None,
) -> Iterator[str]:
    """Bytes as text: line ends become `\\n`, a byte-order mark at the beginning goes.

    Args:
        errors: as Python names them; what "replace" replaces is counted in the findings.

    Raises:
        ValueError: they are not of the encoding (names the byte and its offset), and errors is
            "strict".
    """
    make = codecs.getincrementaldecoder(encoding)
    decoder, newlines = make(errors), io.IncrementalNewlineDecoder(None, translate=True)
    # The text without what is replaced: U+FFFD may also stand in the text itself.
    genuine = make("ignore") if errors == "replace" and findings is not None else None
    offset, first = 0, True  # offset: bytes before what the decoder has not decoded
    for chunk, final in _with_end(data):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final)
        except UnicodeError as error:
            raise ValueError(_undecodable(error, name, encoding, offset - pending)) from None
        offset += len(chunk)
        if genuine is not None and findings is not None:
            count = text.count("\ufffd")
            findings.replace(name, count - genuine.decode(chunk, final).count("\ufffd"))
        text = newlines.decode(text, final)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        if text:
            yield text


def _with_end(data: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for chunk in data:
        yield chunk, False
    yield b"", True


def text_without_nuls(
    data: Iterable[bytes], name: str, errors: str, encoding: str, findings: Findings
) -> Iterator[str]:
    """Decode bytes as `decoded` does, and refuse or replace NULs, which text does not have.

    Raises:
        ValueError: there is a NUL, and errors is "strict".
    """
    if errors == "strict" and ascii_compatible(encoding):  # bytes are searched 5 times as fast
        return decoded(_checked(data, name), name, errors, encoding, findings)
    return _replaced(decoded(data, name, errors, encoding, findings), name, errors, findings)


def _checked(data: Iterable[bytes], name: str) -> Iterator[bytes]:
    offset = 0
    for chunk in data:
        if b"\0" in chunk:
            raise ValueError(_nul(name, f"at offset {offset + chunk.index(0):,}"))
        offset += len(chunk)
        yield chunk


def _replaced(text: Iterable[str], name: str, errors: str, findings: Findings) -> Iterator[str]:
    characters = 0
    for chunk in text:
        if "\0" in chunk:
            if errors == "strict":
                raise ValueError(_nul(name, f"as character {characters + chunk.index(chr(0)):,}"))
            findings.replace(name, chunk.count("\0"))
            chunk = chunk.replace("\0", "\ufffd")
        characters += len(chunk)
        yield chunk


def _nul(name: str, where: str) -> str:
    return (
        f"{name} has a NUL {where}, which is not text (set download.encoding if it is not the "
        "file's, or download.errors: replace to put U+FFFD in place of NULs)"
    )


def _undecodable(error: UnicodeError, name: str, encoding: str, start: int) -> str:
    shown = "UTF-8" if encoding == "utf-8" else encoding
    if not isinstance(error, UnicodeDecodeError):
        more = f" (set download.encoding: {encoding}-le or {encoding}-be)"
        return f"{name} is not {shown}: {error}" + (more if "BOM" in str(error) else "")
    data, at = error.object, error.start
    what = f"{name} is not {shown}: byte {data[at]:#04x} at offset {start + at:,}"
    sample = data[max(0, at - SAMPLE // 2) : at + SAMPLE // 2]
    replace = "download.errors: replace puts U+FFFD in place of such bytes"
    if encoding != "utf-8":
        return f"{what} (set download.encoding to the file's encoding, or {replace})"
    if _mostly_utf8(sample):
        return f"{what} ({replace})"
    few = sample.decode("utf-8", "replace").count("\ufffd") < 5
    return f"{what} (set {encoding_hint(sample)}" + (f"; {replace})" if few else ")")


def encoding_hint(sample: bytes) -> str:
    """The setting that reads bytes which are not UTF-8."""
    if found := wide(sample) or _guess(sample):
        return f"download.encoding: {found}, which it looks like"
    return "download.encoding to the file's encoding"


def _mostly_utf8(sample: bytes) -> bool:
    """Whether valid characters beyond ASCII are far more than invalid bytes."""
    text = sample.decode("utf-8", "replace")
    invalid = text.count("\ufffd")
    return sum(not c.isascii() for c in text) - invalid > 10 * invalid


# ----- which encoding it is


def ascii_compatible(encoding: str) -> bool:
    """Whether ASCII's bytes are its characters."""
    try:
        return " az{\n".encode(encoding) == b" az{\n"
    except (UnicodeError, LookupError):  # there are codecs that only decode
        return False


def detected(head: bytes, name: str) -> str:
    """The encoding of a file that begins with some bytes.

    Raises:
        ValueError: it can't be decided.
    """
    head = head[:SAMPLE]
    for mark, encoding in BOMS:
        if head.startswith(mark):
            return encoding
    if found := wide(head):
        return found
    if is_utf8(head) or _mostly_utf8(head):
        return "utf-8"
    if (found := _guess(head)) is None:
        raise ValueError(
            f"{name}: its encoding can't be detected (set download.encoding to its name)"
        )
    return found


def is_utf8(head: bytes) -> bool:
    """Whether it is valid, but for a character that may be cut at its end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _guess(sample: bytes) -> str | None:
    from charset_normalizer import from_bytes  # 40 ms, and only where it is not UTF-8

    whole_lines = sample[: sample.rfind(b"\n") + 1] or sample
    best = from_bytes(whole_lines).best()
    if best is None or not ascii_compatible(best.encoding):  # noise looks like EBCDIC
        return None
    return best.encoding


def wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte-order mark, if bytes look like it."""
    head = head[:4096]
    if b"\0" not in head or (head.count(0) < 0.2 * len(head) and is_utf8(head.replace(b"\0", b""))):
        return None  # there may be a stray NUL in other text
    found = {}
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        fine = sum(c.isprintable() or c in "\t\n\r\f\ufeff" for c in text)
        if text and fine >= 0.98 * len(text):
            found[encoding] = sum(c.isascii() for c in text)
    return max(found, key=lambda encoding: found[encoding]) if found else None
