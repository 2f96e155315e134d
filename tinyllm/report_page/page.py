"""Drawing the page from its content, and reading the content from a page."""

import hashlib
import html
import json
import re
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

from tinyllm.common.units import megabytes
from tinyllm.pictures.evaluation import between, percent
from tinyllm.pictures.figure import BLUE, GREY, ORANGE
from tinyllm.report_page import axes
from tinyllm.report_page.content import FORMAT, Content

PARTS = Path(__file__).parent
CONTENT = "content"  # id of the page's element that holds the content
_CONTENT = re.compile(rf'<script type="application/json" id="{CONTENT}">(.*?)</script>', re.DOTALL)
# Control characters as their pictures (U+2400 to U+2421); other line ends, lone surrogates and the
# noncharacters, which HTML doesn't allow, as U+FFFD. Tab and line feed stay.
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
_VISIBLE |= {127: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), 0xFFFE, 0xFFFF], 0xFFFD)
_SURROGATES = re.compile("[\ud800-\udfff]")


def write(path: Path, content: Content) -> None:
    """Write the page to a file.

    A failure to draw is only printed, because the numbers are published: the page then has the
    reason alone.
    """
    try:
        text = draw(content)
    except Exception as error:  # of any kind, from jinja or its installation
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"can't draw {path.name}: {reason}", file=sys.stderr)
        title = html.escape(visible(content["title"]))
        text = f"<!doctype html>\n<title>{title}</title>\n<p>This page failed to draw.\n"
    path.write_bytes(text.encode())


def draw(content: Content) -> str:
    """The page as HTML. The same content gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"axes": axes}
    environment.filters |= {
        "count": lambda number: f"{number:,.0f}",
        "megabytes": megabytes,
        "percent": percent,
        "between": lambda row: between(row["least"], row["most"]),
    }
    script = (PARTS / "page.js").read_text(encoding="utf-8")
    shown = visible(content)
    return environment.get_template("page.html").render(
        **shown,
        content_id=CONTENT,
        content=as_json(shown),
        style=(PARTS / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_sha256=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        colours={"blue": BLUE, "orange": ORANGE, "grey": GREY},
    )


def read(text: str) -> Content:
    """The content of a page that `draw` made.

    Raises:
        ValueError: it is no such page, or one of another version.
    """
    found = _CONTENT.search(text)
    try:
        content = json.loads(found[1]) if found else None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError("not a report of a run: it has no content to read")
    if content.get("format") != FORMAT:
        raise ValueError(f"its format is {content.get('format')}, and this version reads {FORMAT}")
    return content


def as_json(content: Any) -> str:
    """JSON that can't end the element of HTML that it is in."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def visible(value: Any) -> Any:
    """The same content without characters that HTML doesn't allow, in texts and names."""
    if isinstance(value, str):
        text = value.replace("\r\n", "\n").translate(_VISIBLE)
        return _SURROGATES.sub("\ufffd", text)
    if isinstance(value, dict):
        return {visible(key): visible(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [visible(held) for held in value]
    return value
