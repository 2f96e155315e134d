"""Write a card into its model folder, and the complete one into a copy that leaves the project."""

import re
import shutil
from dataclasses import asdict
from pathlib import Path

from tinyllm.common.files import seal, sha256_of, write_json, write_text
from tinyllm.model_card.facts import FACTS, Training
from tinyllm.model_card.page import card
from tinyllm.models.folder import WEIGHTS

CARD = "README.md"
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def describe(folder: Path, training: Training) -> None:
    """Add the card and the facts to a model folder that was just saved."""
    write_json(folder / FACTS, asdict(training))
    write_text(folder / CARD, card(training))
    seal(folder)


def write_card(folder: Path, complete: Path | None = None, origin: str = "") -> str | None:
    """Replace the card in a copy of a model folder by the complete one, with its pictures.

    Args:
        folder: the copy; its checksums are renewed.
        complete: the complete card that `evaluate` wrote; None if there is none.
        origin: Markdown on where the model comes from, such as commit, experiment, and commands.

    Returns:
        Why the complete card was not used; None if it was.
    """
    reason = None
    text = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).exists() else ""
    if complete is None or not complete.exists():
        reason = "the model has not been evaluated, so its card has no test scores"
    elif sha256_of(folder / WEIGHTS) not in (written := complete.read_text(encoding="utf-8")):
        reason = f"{complete} describes other weights, so the model's card has no test scores"
    else:
        text = _with_pictures(written, complete.parent, folder)
    if origin:
        text = f"{text.rstrip()}\n\n## Origin\n\n{origin.strip()}\n"
    if text:
        write_text(folder / CARD, text)
    seal(folder)
    return reason


def _with_pictures(text: str, source: Path, folder: Path) -> str:
    """Copy a card's pictures beside it; those that don't exist are removed from the text."""

    def copied(found: re.Match[str]) -> str:
        picture = source / found[2]
        if not picture.is_file():
            return ""
        shutil.copyfile(picture, folder / picture.name)
        return f"![{found[1]}]({picture.name})"

    return _PICTURE.sub(copied, text)
