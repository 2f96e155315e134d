"""Prints a lineage as a tree."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from tinyllm.experiments.lineage import Lineage

WIDTH = 160  # columns if the output is no terminal
SHORT = 12  # digits shown of a hash
PACKAGES = ("dvc", "mlflow", "tiktoken", "tokenizers", "rustbpe", "safetensors", "pyarrow")
HASHES = ("sha256", "md5", "commit")


def print_lineage(found: Lineage) -> None:
    """Print the steps with their facts, and what is missing."""
    tree = Tree(Text(found.title, style="bold"))
    for step in fields(found):
        facts = getattr(found, step.name)
        if step.name != "title" and any(value is not None for value in facts.values()):
            branch = tree.add(Text(step.name, style="bold"))
            lines = [*_lines(facts)]
            width = max(len(name) for name, _ in lines)
            for name, value in lines:
                branch.add(Text(f"{name:<{width}}  ", style="dim").append(value, style="not dim"))
    if found.missing:
        branch = tree.add(Text("missing", style="bold yellow"))
        for line in found.missing:
            branch.add(Text(line, style="yellow"))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(tree)


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The name and the text of each fact; a list has a line for each element."""
    for name, value in facts.items():
        if value is None or value in ([], {}):
            continue
        if name == "packages":
            shown = [f"{p} {value[p]}" for p in PACKAGES if p in value]
            yield name, f"{', '.join(shown)}, and {len(value) - len(shown)} more"
        elif isinstance(value, list):
            for number, element in enumerate(value):
                yield name if number == 0 else "", str(element)
        elif isinstance(value, dict):
            yield name, _in_words(value)
        else:
            yield name.replace("_", " "), _text(name, value)


def _in_words(facts: dict[str, Any]) -> str:
    if "tokens" in facts:  # a split
        counts = f"{facts['documents']:,} documents, {facts['tokens']:,} tokens"
        return f"{counts}, sha256 {facts['sha256'][:SHORT]}"
    return ", ".join(f"{name} {_text(name, value)}" for name, value in facts.items() if value)


def _text(name: str, value: Any) -> str:
    if name in HASHES:
        return str(value)[: SHORT if name != "sha256" else 64]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if name == "seed":
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
