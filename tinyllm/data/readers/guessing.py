"""Guess the encoding of bytes that are neither ASCII nor Unicode, where two libraries agree.

Either library alone is wrong too often for training data. `python -m benchmarks.encodings`, 340
single messages of programs in 23 languages: charset-normalizer 3.5 (with the encodings below)
decodes 78 wrongly and chardet 7.7 decodes 11 wrongly; if both agree, none is wrong and 84 are
undecided.
"""

import codecs
import re

SAMPLE = 1 << 15  # bytes
_CONTROL = re.compile(r"[\x7f-\x9f]")  # a wrong encoding often gives these
# Encodings in use, of about a hundred that charset-normalizer tries.
USUAL = [
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258"),
    *("iso8859_2", "iso8859_15", "koi8_r", "koi8_u", "cp866"),
    *("gb18030", "big5", "cp932", "euc_jp", "cp949"),
]


def guesses(data: bytes) -> list[str]:
    """Return the encodings that bytes may be in: one if both libraries give the same text.

    Empty if neither library finds one.
    """
    import chardet  # imported here, like the next one: most corpora are UTF-8
    from charset_normalizer import from_bytes

    sample = _around_the_first_beyond_ascii(data)
    best = from_bytes(sample, cp_isolation=USUAL).best()
    names = [chardet.detect(sample)["encoding"], best.encoding if best else None]
    found: dict[str, str] = {}  # text to encoding
    for name in names:
        text = None if name is None else _decoded(sample, name)
        if name is not None and text is not None:
            found.setdefault(text, codecs.lookup(name).name)
    return list(found.values())


def _around_the_first_beyond_ascii(data: bytes) -> bytes:
    """Return some lines around the first non-ASCII byte."""
    first = next((at for at, byte in enumerate(data) if byte > 127), 0)
    begin = max(0, first - SAMPLE // 2)
    return data[data.rfind(b"\n", 0, begin) + 1 if begin else 0 :][:SAMPLE]


def _decoded(sample: bytes, encoding: str) -> str | None:
    """Decode bytes; None if they are invalid in the encoding, or not text."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except (LookupError, UnicodeDecodeError):
        return None
    return None if _CONTROL.search(text) else text
