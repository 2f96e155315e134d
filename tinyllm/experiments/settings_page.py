"""docs/settings.md: the settings of params.yaml and their comments, as tables."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from tinyllm.settings import strict_yaml

HEAD = """\
# Settings

Every setting is in [params.yaml](../params.yaml). To change one, edit the file and run `dvc repro`,
or run `dvc exp run -S section.setting=value`. The defaults below are the values in that file.

`tinyllm settings > docs/settings.md` writes this page from the comments in params.yaml.
"""
KEY = re.compile(r"(?P<indent> *)(?P<key>\w+):(?:.*? # (?P<comment>.*)|.*)")
COMMENT = re.compile(r"(?P<indent> +)# +(?P<comment>.*)")
LONGEST_DEFAULT = 40  # characters; for a longer list, the page shows its length


@dataclass
class Table:
    """A heading, a line below it, and a row for each setting: name, default, comment."""

    heading: str = ""
    about: str = ""
    rows: list[list[str]] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"| `{name}` | {value} | {_cell(about)} |\n" for name, value, about in self.rows]
        if rows:
            rows[:0] = ["| setting | default | what it is |\n", "|---|---|---|\n"]
        return "\n".join(part for part in (self.heading, self.about, "".join(rows)) if part)


def page(text: str) -> str:
    """Return the page, as Markdown, for the text of a params.yaml."""
    values = strict_yaml.load(text)
    tables, section = [Table()], ""
    for line in text.splitlines():
        if found := KEY.fullmatch(line):
            key, comment = found["key"], found["comment"] or ""
            if not found["indent"] and isinstance(values[key], dict):
                section = key
                tables.append(Table(f"## {key}\n", f"{_sentence(comment)}.\n" if comment else ""))
            else:
                value = values[section][key] if found["indent"] else values[key]
                tables[-1].rows.append([key, _default(value), comment])
        elif found := COMMENT.fullmatch(line):
            if found["indent"] == "  ":  # above a group of settings
                tables.append(Table(f"### {_sentence(found['comment'])}\n"))
            else:  # continues the comment above it
                tables[-1].rows[-1][-1] += " " + found["comment"]
    return "\n".join([HEAD, *map(str, tables)])


def _sentence(text: str) -> str:
    return _escaped(text[:1].upper() + text[1:])


def _default(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and len(text) > LONGEST_DEFAULT:
        return f"a list of {len(value)}"
    return f"`{text}`"


def _cell(text: str) -> str:
    return _escaped(text).replace("|", r"\|")


def _escaped(text: str) -> str:
    """Escape the special characters of Markdown, except in `code`."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*<])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
