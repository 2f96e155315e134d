"""The summary of all splits: where their text comes from, and the size and hash of each."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tinyllm.common.files import read_json, write_json
from tinyllm.data.split_rule import SPLITS
from tinyllm.data.token_store import SplitSummary, TextSource, read_text_source


@dataclass(frozen=True)
class SplitsSummary:
    """What is known of a corpus without reading its splits.

    Attributes:
        text: where it comes from; None if not recorded.
        splits: by name.
    """

    text: TextSource | None
    splits: dict[str, SplitSummary]


def write_summary(path: Path, tokens: Path, splits: Mapping[str, SplitSummary]) -> None:
    """Publish the summary of splits that were made from a token folder."""
    text = read_text_source(tokens)
    content = {"text": None if text is None else asdict(text)}
    write_json(path, content | {split: asdict(splits[split]) for split in SPLITS})


def read_summary(path: Path) -> SplitsSummary:
    """Read what `write_summary` wrote.

    Raises:
        ValueError: it is missing or corrupt.
    """
    content = read_json(path)
    text = content["text"]
    return SplitsSummary(
        None if text is None else TextSource(**text),
        {split: SplitSummary(**content[split]) for split in SPLITS},
    )
