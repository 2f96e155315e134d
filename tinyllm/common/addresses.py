"""Remove passwords and tokens from addresses."""

import re

MASK = "***"
# user:password@ of an address; the password may contain an unescaped @
_PASSWORD = re.compile(r"(?<=://)([^\s/?#:@\"']*):([^\s/?#\"']*)@")
_TOKEN = re.compile(r"(https?://)[^\s/?#:@\"']+@")  # https://TOKEN@host
_QUERY = re.compile(
    r"([?&;][\w-]*(?:password|passwd|pwd|token|secret|signature|credential|sig|key)=)[^&;#\s\"']+",
    re.IGNORECASE,
)


def without_passwords(text: str) -> str:
    """Return the text with the passwords and tokens of its addresses replaced by `***`.

    >>> without_passwords("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    text = _PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _TOKEN.sub(rf"\1{MASK}@", text)
    return _QUERY.sub(rf"\1{MASK}", text)
