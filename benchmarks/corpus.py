"""Makes text of any size from the sentences of a real text, the same every time."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

SEPARATOR = "\n<|document|>\n"
FILE = 16_000_000  # bytes of one file


def documents(text: str, size: int) -> Iterator[str]:
    """Documents of 1 to 30 of a text's sentences or lines each, with a total of `size` bytes.

    One sentence in five gets a unique word, like names and numbers in real text.
    """
    chance = random.Random(1)
    sentences = [s for s in re.split(r"(?<=[.!?:;])\s+|\n\n+", text) if s.strip()]
    while size > 0:
        chosen = chance.choices(sentences, k=chance.randint(1, 30))
        for i in range(0, len(chosen), 5):
            chosen[i] += f" {chance.randbytes(chance.randint(1, 4)).hex()}"
        document = chance.choice(" \n").join(chosen)
        size -= len(document.encode())
        yield document


def write(folder: Path, text: str, size: int) -> None:
    """Fill a folder with text files of these documents."""
    folder.mkdir(parents=True)
    held: list[str] = []
    length = count = 0
    for document in documents(text, size):
        held.append(document)
        length += len(document)
        if length >= FILE:
            (folder / f"{count:05d}.txt").write_text(SEPARATOR.join(held), encoding="utf-8")
            held, length, count = [], 0, count + 1
    if held:
        (folder / f"{count:05d}.txt").write_text(SEPARATOR.join(held), encoding="utf-8")
