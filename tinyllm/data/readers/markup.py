"""Recognise a fragment of an HTML page."""

import re

_NAMES = (
    "head|body|p|div|br|hr|table|tr|td|ul|ol|li|h[1-6]|span|meta|title|link|script|style|section|"
    "article|main|header|footer|nav|center|font|blockquote|pre|a|img|b|i|em|strong"
)
_TAG = re.compile(rf"</?(?:{_NAMES})\b[^<>]*>", re.IGNORECASE)
_BEGIN = re.compile(
    r"\s*(?><!--.*?-->\s*)*+(<(?:head|body|p|div|br|table|ul|ol|h[1-6]|span|meta|title|link|script|"
    r"style|section|article|main|header|nav|center|font)\b[^<>]*>)",
    re.IGNORECASE | re.DOTALL,
)
# Markdown often contains HTML, or begins with it.
_MARKDOWN = re.compile(r"^(#{1,6} \S|```|={3,}$|-{3,}$)|\]\((https?:|[./#\w])", re.MULTILINE)


def html_fragment(text: str) -> str:
    """Return the first tag of a text that has tags from beginning to end; otherwise empty."""
    begin = _BEGIN.match(text)
    if begin is None:
        return ""
    tags = list(_TAG.finditer(text, begin.start(1)))
    if len(tags) < 2 or _MARKDOWN.search(text):
        return ""
    ends = [tag.start() for tag in tags[1:]] + [len(text)]
    longest = max(end - tag.end() for tag, end in zip(tags, ends, strict=True))
    whole = tags[-1].end() == len(text.rstrip())
    return begin[1][:40] if whole or (len(tags) > 2 and longest < 0.6 * len(text)) else ""
