"""docs/settings.md is the output of `tinyllm settings`."""

import re
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tinyllm.experiments.settings_page import page
from tinyllm.settings.load import Params
from tinyllm.settings.section import Section

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/settings.md").read_text(encoding="utf-8")


def without_defaults(text: str) -> str:
    return re.sub(r"(?m)^(\| `\w+` \|).*?\|", r"\1 |", text)


def test_the_page_in_docs_equals_the_output_of_the_command() -> None:
    command = [sys.executable, "-m", "tinyllm", "settings"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    renew = "run `tinyllm settings > docs/settings.md`"
    assert without_defaults(printed) == without_defaults(PAGE), renew
    changed = ["git", "diff", "--quiet", "HEAD", "--", "params.yaml"]
    if subprocess.run(changed, cwd=ROOT, check=False).returncode == 0:  # params.yaml is unchanged
        assert printed == PAGE, renew


@pytest.mark.parametrize("section", [name for name in Params.model_fields if name != "seed"])
def test_every_setting_has_a_row_that_explains_it(section: str) -> None:
    kind = Params.model_fields[section].annotation
    assert isinstance(kind, type) and issubclass(kind, Section)
    (part,) = re.findall(rf"(?ms)^## {section}\n(.*?)(?=^## |\Z)", PAGE)
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| \S.* \| (\S.*) \|$", part))
    assert set(rows) == set(kind.model_fields)


def test_every_row_has_three_cells() -> None:
    for line in PAGE.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4, line


def test_special_characters_of_markdown_are_escaped() -> None:
    text = "split:  # a *\n  # rules\n  a: 'b'  # see `a|*`, or <x> | *\n          #   and more\n"
    assert page(text).endswith(
        "## split\n\nA \\*.\n\n### Rules\n\n| setting | default | what it is |\n|---|---|---|\n"
        "| `a` | `b` | see `a\\|*`, or \\<x> \\| \\* and more |\n"
    )
