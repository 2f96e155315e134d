"""Prints the scores of a text: a summary, a table of its parts, or JSON."""

import json
import math
import sys
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from tinyllm.common.console import has_colours, is_closed, visible
from tinyllm.evaluation.text_scores import Kind, Part

SHOWN = 10_000  # bytes of a whole text that are shown with its surprising tokens
WIDTH = 60  # characters shown of a document
# Bits of a token from which it is marked, and how: a chance of 1 in 1,000 or less, 1 in 100.
MARKS = {10.0: "\x1b[1;31m", 6.64: "\x1b[33m"}
RESET = "\x1b[0m"
LEGEND = "tokens of a probability below 1/100 are yellow, below 1/1,000 red"


def print_json(parts: Sequence[Part], by: Kind) -> None:
    """Print an object in one line for each part."""
    for part in parts:
        values = {name: v if math.isfinite(v) else None for name, v in part.as_dict().items()}
        named = {} if by == "all" else {by: part.number, "text": part.text}
        print(json.dumps({**named, **values}))
        if is_closed(sys.stdout):
            return


def print_text(parts: Sequence[Part], by: Kind) -> None:
    """Print the scores; on a terminal with the surprising tokens marked."""
    if by == "all":
        (part,) = parts
        if has_colours(sys.stdout):
            _print_marked(part)
        print(_summary(part))
        return
    print(f"{by:>8}  bits/byte     loss  perplexity     bytes  text")
    for part in parts:
        scores = part.scores
        print(
            f"{part.number:>8,}  {scores.bits_per_byte:>9.4f}  {scores.loss:>7.4f}  "
            f"{scores.perplexity:>10,.1f}  {part.n_bytes:>8,}  {_line(part, by)}"
        )
        if is_closed(sys.stdout):
            return


def _summary(part: Part) -> str:
    scores = part.scores
    return (
        f"{scores.bits_per_byte:.4f} bits/byte on {part.n_bytes:,} bytes, "
        f"{part.tokens:,.0f} tokens (loss {scores.loss:.4f}, perplexity {scores.perplexity:,.2f}, "
        f"accuracy {scores.accuracy:.1%})"
    )


def _print_marked(part: Part) -> None:
    text = part.text.encode()[:SHOWN].decode(errors="ignore")
    print(_marked(text, part), end="" if text.endswith("\n") else "\n")
    if len(text) < len(part.text):
        print(f"... (the first {SHOWN:,} bytes of {part.n_bytes:,})")
    print(f"\n{LEGEND}")


def _line(part: Part, by: Kind) -> str:
    """The part in one line: a whole line, or the beginning of a document."""
    beginning = part.text.removesuffix("\n") if by == "line" else part.text[:WIDTH]
    text = beginning.replace("\n", " ")
    return _marked(text, part) if has_colours(sys.stdout) else text


def _marked(text: str, part: Part) -> str:
    """The first characters of a part, the surprising ones in colour; controls are escaped."""
    sizes = [len(character.encode()) for character in text]
    first = np.cumsum([0, *sizes])[:-1]  # byte of each character
    styles = [_style(bits) for bits in part.surprise[first].tolist()]
    shown = []
    for style, run in groupby(zip(styles, text, strict=True), key=lambda pair: pair[0]):
        characters = visible("".join(character for _, character in run))
        shown.append(f"{style}{characters}{RESET}" if style else characters)
    return "".join(shown)


def _style(bits: float) -> str:
    return next((style for least, style in MARKS.items() if bits >= least), "")
