"""Report on a corpus: numbers, a picture and a page, with the same bytes every time."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.common.files import publish_folder, write_json, write_text
from tinyllm.common.units import megabytes
from tinyllm.data.readers.raw_folder import Manifest
from tinyllm.data.token_store import TokenTotals
from tinyllm.data.tokenize.survey import Survey
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.pictures.lengths import lengths
from tinyllm.settings.tokenize import Tokenize

NUMBERS, PICTURE, PAGE = "corpus.json", "lengths.png", "corpus.md"
COMMONEST = 10  # tokens listed


def write(folder: Path, content: dict[str, Any], totals: TokenTotals) -> None:
    """Publish the folder of reports on an encoded corpus; `content` is its summary."""
    with publish_folder(folder) as new:
        write_json(new / NUMBERS, content)
        lengths(new / PICTURE, totals.of_length)
        write_text(new / PAGE, page(content))


def summary(
    found: Survey, totals: TokenTotals, tokenizer: Tokenizer, raw: Manifest | None = None
) -> dict[str, Any]:
    """Return all reported values. They count the documents that are kept.

    Args:
        raw: The readers' findings are taken from it; None: none.
    """
    whole = totals.all()
    near = found.near
    return {
        "encoding": tokenizer.encoding.name,
        "vocab_size": tokenizer.vocab_size,
        "documents": whole["documents"],
        "bytes": whole["bytes"],
        "tokens": whole["tokens"],
        "bytes_per_token": round(whole["bytes"] / whole["tokens"], 3),
        "cut_by_position": found.cuts is not None,
        "duplicates_dropped": found.duplicates,
        "near_duplicates": None if near is None else near._asdict(),
        "splits": {
            name: {**sizes, "share_of_bytes": round(sizes["bytes"] / whole["bytes"], 4)}
            for name, sizes in totals.of_split.items()
        },
        "tokens_of_a_document": quantiles(totals.of_length),
        "ids_used": int((totals.of_token > 0).sum()),
        "commonest_tokens": commonest(totals, tokenizer),
        **(_noticed(raw) if raw and raw.notes else {}),
    }


def _noticed(raw: Manifest) -> dict[str, Any]:
    return {
        "records_skipped": raw.skipped,
        "characters_replaced": sum(raw.replaced.values()),
        "notes": raw.notes,
    }


def quantiles(of_length: Counter[int]) -> dict[str, int]:
    """Return the shortest, the longest, and the tenth, fiftieth and ninetieth percentile."""
    values = np.array(sorted(of_length), dtype=np.int64)
    upto = np.cumsum([of_length[value] for value in values.tolist()])
    places = {"shortest": 0.0, "tenth": 0.1, "median": 0.5, "nine_tenths": 0.9, "longest": 1.0}
    return {
        name: int(values[np.searchsorted(upto, max(1, share * upto[-1]))])
        for name, share in places.items()
    }


def commonest(totals: TokenTotals, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Return the most frequent text tokens with their counts; the lower id first if equal."""
    counts = totals.of_token.copy()
    counts[tokenizer.end_of_text] = 0
    order = np.argsort(-counts, kind="stable")[:COMMONEST]
    return [
        {"id": i, "text": readable(tokenizer, i), "count": int(counts[i])}
        for i in order.tolist()
        if counts[i]
    ]


def readable(tokenizer: Tokenizer, token: int) -> str:
    """Return a token's text, a space as ␣ and unprintable characters as Python writes them."""
    text = tokenizer.decode_bytes([token]).decode("utf-8", errors="backslashreplace")
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown).replace(" ", "␣")


def lines(content: dict[str, Any], settings: Tokenize) -> Iterator[str]:
    """Yield the lines to print in the terminal."""
    yield (
        f"{content['encoding']}, {content['vocab_size']:,} ids: {content['tokens']:,} tokens, "
        f"{content['bytes_per_token']:.2f} bytes each"
    )
    if settings.encoding == "bpe" and content["vocab_size"] < settings.vocab_size:
        yield f"the text yields only {content['vocab_size']:,} tokens"
    if content["duplicates_dropped"]:
        yield f"{content['duplicates_dropped']:,} documents skipped as exact duplicates of others"
    yield from content.get("notes", [])
    yield twins(content)


def twins(content: dict[str, Any]) -> str:
    """Describe the near-duplicates in a sentence without its full stop."""
    near = content["near_duplicates"]
    if content["cut_by_position"]:
        return "a single document, so it is split by position, not by content"
    if near is None:
        return "near-duplicates not searched: the corpus is larger than split.near_duplicates"
    return (
        f"{near['groups']:,} groups of near-duplicates with {near['documents']:,} documents, of "
        f"which {near['moved']:,} moved to the split of the first document of their group"
    )


def page(content: dict[str, Any]) -> str:
    """Format the report as Markdown."""
    sizes = content["tokens_of_a_document"]
    lines = [
        "# The corpus", "",
        f"{content['documents']:,} documents, {megabytes(content['bytes'])}, "
        f"{content['tokens']:,} tokens of `{content['encoding']}`: "
        f"{content['bytes_per_token']:.2f} bytes per token. Of its {content['vocab_size']:,} ids "
        f"{content['ids_used']:,} occur.", "",
        f"- {content['duplicates_dropped']:,} exact duplicates skipped",
        f"- {twins(content)}",
        *(f"- {note}" for note in content.get("notes", [])), "",
        "| split | documents | tokens | bytes | share |", "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {split['documents']:,} | {split['tokens']:,} | {split['bytes']:,} "
            f"| {split['share_of_bytes']:.1%} |"
            for name, split in content["splits"].items()
        ), "",
        f"![How many documents have how many tokens]({PICTURE})", "",
        f"The median document has {sizes['median']:,} tokens; the shortest tenth at most "
        f"{sizes['tenth']:,}, the longest tenth at least {sizes['nine_tenths']:,}; the shortest "
        f"{sizes['shortest']:,}, the longest {sizes['longest']:,}, each including <|endoftext|>.",
        "", "| most frequent token | id | count | share |", "|---|---:|---:|---:|",
        *(
            f"| `{cell(token['text'])}` | {token['id']} | {token['count']:,} "
            f"| {token['count'] / content['tokens']:.1%} |"
            for token in content["commonest_tokens"]
        ), "",
    ]  # fmt: skip
    return "\n".join(lines)


def cell(text: str) -> str:
    """Format text as code in a table cell."""
    return text.replace("|", "\\|").replace("`", "'")
