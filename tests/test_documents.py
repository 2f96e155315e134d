"""What README.md and docs/ refer to exists: links, commands, settings."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from tests.helpers import ROOT, random_model
from tinyllm.cli.main import commands
from tinyllm.data.sources.catalogue import check_source
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.folder import save_model
from tinyllm.settings.load import Params, load_params
from tinyllm.settings.section import Section
from tinyllm.training.data import model_config

PAGES = [
    ROOT / "README.md",
    ROOT / "corpus/README.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "log.md"),
]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(page: Path) -> list[str]:
    """The lines of a page's code blocks, and its pieces of inline code."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^ *```\w*\n(.*?)^ *```", text)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^ *```.*?^ *```", "", text))
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [*lines, *(piece.replace(r"\|", "|") for piece in inline)]


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "http://")):
            file, _, anchor = target.partition("#")
            found = page.parent / file if file else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), target


@pages
def test_every_command_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in code(page):
        for tool, name in re.findall(r"(?:^|&& )(tinyllm|make) ([a-z]+)", line):
            known = commands.commands if tool == "tinyllm" else re.findall(r"(?m)^(\w+):", makefile)
            assert name in known, line


@pages
def test_every_setting_exists(page: Path) -> None:
    sections = "|".join(name for name in Params.model_fields if name != "seed")
    for line in code(page):
        for section, name in re.findall(rf"(?<![\w/.])({sections})\.(\w+)", line):
            kind = Params.model_fields[section].annotation
            assert isinstance(kind, type) and issubclass(kind, Section)
            assert name in kind.model_fields, line


def experiments() -> list[str]:
    lines = {line for page in PAGES for line in code(page) if re.match("dvc exp run .*-S ", line)}
    return sorted(line for line in lines if "section.setting" not in line)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model that pages start from, of the default shape."""
    folder = tmp_path_factory.mktemp("base")
    params = load_params(ROOT / "params.yaml")
    text = [path.read_text(encoding="utf-8") for path in (ROOT / "tinyllm").rglob("*.py")]
    tokenizer = Tokenizer.train(text, params.tokenize.vocab_size)
    config = model_config(params.train, tokenizer.vocab_size, tokenizer.end_of_text)
    save_model(folder / "models/base", random_model(config), tokenizer)
    return folder


@pytest.mark.parametrize("line", experiments())
def test_every_experiment_has_settings_that_are_valid(
    line: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As bash, DVC and the stages read them; the experiment itself is not run."""
    if "train.init_from" in line:
        monkeypatch.chdir(request.getfixturevalue("base"))
    bash = ["bash", "-c", f"printf '%s\\0' {line.partition('&&')[0]}"]
    words = subprocess.run(bash, check=True, capture_output=True, text=True).stdout.split("\0")
    options = [value for flag, value in itertools.pairwise(words) if flag == "-S"]
    # A model to start from does not exist here; tests/test_finetune.py trains from one.
    options = [value for value in options if not value.startswith("train.init_from=")]
    for changes in get_hydra_sweeps({"params.yaml": options}):
        params = tmp_path / "params.yaml"
        params.write_bytes((ROOT / "params.yaml").read_bytes())
        apply_overrides(params, changes["params.yaml"])
        load_params(params, check_source)
