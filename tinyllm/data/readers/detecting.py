"""Detect the encoding of bytes."""

import codecs
import re
import unicodedata

from tinyllm.data.readers.guessing import guesses

SAMPLE = 1 << 17  # bytes used to detect an encoding
WINDOW = 4096  # bytes to examine after a position
CONTROLS = bytes({*range(32), 127} - set(b"\b\t\n\v\f\r\x1b"))  # not in any text
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Text in any script has some of these; other encodings decoded as UTF-16 have almost none.
_BETWEEN_WORDS = " \n\u3000\u3001\u3002\uff0c"
_ESCAPES = re.compile(rb"\x1b\$(?:[@B]|\(D|\)C)")
_PLAIN = re.compile(rb"[\t\n\r -~]*")
_HZ = re.compile(rb"~\{(?:[!-}][!-~])+~\}")
_SHIFTED = re.compile(rb"\+[A-Za-z0-9+/]{3,}")


def ascii_compatible(encoding: str) -> bool:
    """Return whether ASCII bytes mean ASCII characters in an encoding."""
    try:
        return " az{\n".encode(encoding) == b" az{\n"
    except (UnicodeError, LookupError):  # some codecs only decode
        return False


def detected(head: bytes, name: str) -> str:
    """Return the encoding of a file that begins with some bytes.

    Raises:
        ValueError: The encoding can't be detected.
    """
    head = head[:SAMPLE]
    for mark, encoding in BOMS:
        if head.startswith(mark):
            return encoding
    if found := wide(head) or escaped(head):
        return found
    if is_utf8(head) or mostly_utf8(head, times=2):
        return "utf-8"
    candidates = guesses(head)
    if len(candidates) != 1:
        raise ValueError(
            f"{name}: the encoding can't be detected (set download.encoding to its name"
            f"{_or(candidates)})"
        )
    return candidates[0]


def encoding_hint(sample: bytes) -> str:
    """Return the setting that reads bytes that are not UTF-8."""
    found = wide(sample) or escaped(sample)
    candidates = [found] if found else guesses(sample)
    if len(candidates) == 1:
        return f"download.encoding: {candidates[0]}, the likely encoding"
    return f"download.encoding to the file's encoding{_or(candidates)}"


def _or(candidates: list[str]) -> str:
    return f"; it may be {', '.join(candidates[:-1])} or {candidates[-1]}" if candidates else ""


def is_utf8(head: bytes) -> bool:
    """Return whether bytes are valid UTF-8, apart from a cut character at the end."""
    if head.isascii():  # the usual case
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def mostly_utf8(sample: bytes, times: int = 10) -> bool:
    """Return whether valid non-ASCII characters are this many times more than invalid bytes."""
    text = sample.decode("utf-8", "replace")
    invalid = text.count("\ufffd")
    return sum(not c.isascii() for c in text) - invalid > times * invalid


def wide(head: bytes) -> str | None:
    """Return UTF-16 or UTF-32 if bytes look like it and have no byte-order mark."""
    head = head[:WINDOW]
    begin = head[:32]
    if (b"\0" not in head and is_utf8(head)) or (len(begin) == 32 and _PLAIN.fullmatch(begin)):
        return None
    found = {}
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        fine = sum(c.isprintable() or c in "\t\n\r\f\ufeff\u3000" for c in text)
        if not text or fine < 0.98 * len(text):
            continue
        if head.count(0) >= 0.2 * len(head) or _has_words(text, head):
            found[encoding] = sum(c.isascii() or c in _BETWEEN_WORDS for c in text)
    return max(found, key=lambda encoding: found[encoding]) if found else None


def _has_words(text: str, data: bytes) -> bool:
    """Return whether bytes with few NULs, decoded as UTF-16, are text in some script."""
    if sum(map(text.count, _BETWEEN_WORDS)) < max(1, 0.01 * len(text)):
        return False
    # ASCII with a stray NUL decodes like this too.
    if 2 * sum(c >= "\u2e80" for c in text) > len(text):
        return not is_utf8(data.replace(b"\0", b""))
    blocks = sorted(map([ord(c) >> 8 for c in text].count, {ord(c) >> 8 for c in text}))
    return sum(blocks[-2:]) >= 0.9 * len(text) and 2 * sum(map(str.isalpha, text)) > len(text)


def wide_part(data: bytes) -> tuple[int, str] | None:
    """Return where UTF-16 follows other text: the position of its first NUL, and which UTF-16."""
    nul = data.find(0)
    for start, encoding in ((nul - 1, "utf-16-le"), (nul, "utf-16-be")):
        part = data[max(0, start) : start + WINDOW]
        if nul >= 0 and start >= 0 and part.count(0) >= 3 and wide(part) == encoding:
            return start, encoding
    return None


def escaped(head: bytes) -> str | None:
    """An encoding that writes other characters in those of ASCII, if bytes evidently are in it."""
    # The first bytes of the patterns: usually there are none.
    if not head.isascii() or not (b"\x1b" in head or b"~" in head or b"+" in head):
        return None
    if _ESCAPES.search(head):
        names = ["iso2022_jp", "iso2022_jp_2", "iso2022_jp_ext", "iso2022_kr"]
    else:
        names = ["hz"] if len(_HZ.findall(head)) >= 2 else []
        names += ["utf-7"] if len(set(_SHIFTED.findall(head))) >= 3 else []
    for encoding in names:
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        beyond = {c for c in text if not c.isascii()}
        if beyond and all(unicodedata.category(c)[0] in "LMPZN" for c in beyond):
            return encoding
    return None


def controls(data: bytes) -> int:
    """Return the number of control characters that no text contains."""
    return len(data) - len(data.translate(None, CONTROLS))


def is_binary(data: bytes) -> bool:
    """Return whether bytes have far more control characters than text in any 8-bit encoding."""
    return (count := controls(data)) >= 8 and count > 0.05 * len(data)
