"""Sentences use the field's plain words: no coined, archaic or figurative ones."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
# Folders (their .py and .md files) and files whose sentences are checked.
CHECKED = [
    "Makefile",
    "README.md",
    "benchmarks",
    "docs",
    "dvc.yaml",
    "params.yaml",
    "stages",
    "tests",
    "tinyllm",
]
NOT_CHECKED = ["docs/log.md"]  # a record of what was done, in the words of its time

# A regular expression, in which a space matches any white space, and what to write instead.
TABLE = [
    (r"\b(told|tells|telling)\b", "reports, prints, raises"),
    (r"\banew\b", "from scratch, again"),
    (r"\b(go|goes|going|gone|went) on\b(?! (a|the|disk|top)\b)", "resumes, continues"),
    (r"\blearn(s|ed|ing)? (\S+ )?(tokenizer|vocabulary|encoding|BPE)\b", "trains the tokenizer"),
    (r"\b(tokenizer|vocabulary|encoding|BPE)( is| that is)? learned\b", "trained"),
    (r"\b(damaged|spoils|spoilt|spoiled|rotted|rotten)\b", "corrupt"),
    (r"\b(is|are) no more\b(?! than)", "missing, exited, deleted"),
    (r"\b(is|are|was|were|has|have|had|be) gone\b(?! on)", "missing, exited, deleted"),
    (r"\b(left|leave|leaves|leaving)( \w+)? out\b", "skips, excludes"),
    (r"\b(bring|brings|bringing|brought)\b", "downloads, reads, fetches"),
    (r"\b(whoever|whatever|whichever|likewise|hence|meanwhile|thereby)\b", "another sentence"),
    (r"\bmodels? (that )?(write|writes|wrote)\b", "generates"),
    (r"\blets? (it|(a|the) model) write\b", "generates"),
    (r"\bplaces? (beyond|apart|further|from the end)\b", "positions"),
    (r"\b(can|can't|cannot|to) bear\b|\bbears\b", "handles"),
    (r"\b(mend|mends|mended|mending)\b", "fixes"),
    (r"\b(heed|heeds|heeded|heeding)\b", "respects"),
    (r"\bask(s|ed)?( is)? of\b", "requires"),
    (r"\b(text|document|message|file|corpus)s? of (one|a single) line\b", "a single-line ..."),
]
MESSAGES = [(r"\b(people|persons?)\b", "you, or nothing")]


class Sentences(NamedTuple):
    """Some text: the line that it begins in, and whether a program prints it."""

    line: int
    text: str
    printed: bool = False


def files_of(name: str) -> Iterator[Path]:
    """Yield the files of an entry of CHECKED."""
    path = ROOT / name
    assert path.exists(), f"CHECKED: {name} does not exist"
    found = [path] if path.is_file() else sorted([*path.rglob("*.py"), *path.rglob("*.md")])
    yield from (file for file in found if file.relative_to(ROOT).as_posix() not in NOT_CHECKED)


def sentences(path: Path) -> Iterator[Sentences]:
    """Yield the sentences of a file: of code, its comments, docstrings and messages."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from comments(text)
        yield from strings(text, test=path.is_relative_to(ROOT / "tests"))
    elif path.suffix == ".md":
        yield Sentences(1, re.sub(r"^```.*?^```", blank, text, flags=re.DOTALL | re.MULTILINE))
    else:  # YAML or a Makefile: comments, descriptions and quoted text
        for line, content in enumerate(text.splitlines(), 1):
            for found in re.findall(r"#.*|desc: .*|(?<=[\s=(])\"[^\"]* [^\"]*\"", content):
                yield Sentences(line, found, printed=not found.startswith("#"))


def comments(source: str) -> Iterator[Sentences]:
    """Yield the comments of Python code; those on consecutive lines are one text."""
    first, last, block = 0, 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last + 1:
            yield Sentences(first, "\n".join(block))
            block = []
        first = first if block else token.start[0]
        last = token.start[0]
        block.append(token.string.lstrip("# "))
    if block:
        yield Sentences(first, "\n".join(block))


def strings(source: str, test: bool) -> Iterator[Sentences]:
    """Yield docstrings and messages; other strings of tests are data."""
    tree = ast.parse(source)
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node) is not None
        and isinstance(node.body[0], ast.Expr)
    }
    messages = {
        node
        for parent in ast.walk(tree)
        if not test or (isinstance(parent, ast.keyword) and parent.arg in ("match", "reason"))
        for node in ast.walk(parent)
    }
    for node in docstrings | messages:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield Sentences(node.lineno, node.value, printed=node not in docstrings)


def blank(found: re.Match[str]) -> str:
    """Replace a match by its line feeds, which keeps the numbers of the lines."""
    return "\n" * found[0].count("\n")


def faults(content: Sentences) -> Iterator[tuple[int, str]]:
    """Yield the line of each word of the table, and what to write."""
    text = re.sub(r"`[^`]*`|\$+\w+", blank, content.text)  # without code and variables
    for pattern, instead in TABLE + (MESSAGES if content.printed else []):
        for match in re.finditer(pattern.replace(" ", r"\s+"), text, re.IGNORECASE):
            word = " ".join(match[0].split())
            yield content.line + text[: match.start()].count("\n"), f"{word} → {instead}"


def test_no_sentence_has_a_word_of_the_table() -> None:
    found = {
        f"{file.relative_to(ROOT)}:{line}: {fault}"
        for name in CHECKED
        for file in files_of(name)
        for content in sentences(file)
        for line, fault in faults(content)
    }
    assert not found, "\n".join(["write plainer words:", *sorted(found)])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("What is wrong is told in a line.", "told"),
        ("The training goes\non from there.", "goes on"),
        ("An encoding learned from text.", "encoding learned"),
        ("The file is damaged.", "damaged"),
        ("A process that is gone", "is gone"),
        ("Empty ones are left out.", "left out"),
        ("Another process brought it.", "brought"),
        ("Text that a model writes", "model writes"),
        ("White space that patterns can bear", "can bear"),
        ("It is asked of the site.", "asked of"),
        ("a corpus of one line", "corpus of one line"),
    ],
)
def test_words_in_the_sense_of_the_table_are_found(text: str, word: str) -> None:
    ((_, fault),) = faults(Sentences(1, text))
    assert fault.startswith(f"{word} → ")


@pytest.mark.parametrize(
    "text",
    [
        "The result is no more than a hint; a bearer token in place of a password.",
        "The file goes on the disk, and the process that wrote the model exits.",
        "Run `bring`, then the folder of the model to write.",
        "Models learn from examples; people read the report.",
        "The line ends at the places of both commas.",
    ],
)
def test_words_in_another_sense_are_not_found(text: str) -> None:
    assert not list(faults(Sentences(1, text)))


def test_comments_docstrings_and_messages_are_read() -> None:
    source = '''"""Says anew."""
x = 1  # is
# damaged
def f(name: str) -> None:
    """Docs
    told."""
    raise ValueError(f"{name} brought", "for people")
'''
    found = [
        fault
        for content in [*comments(source), *strings(source, test=False)]
        for fault in faults(content)
    ]
    assert sorted(found) == [
        (1, "anew → from scratch, again"),
        (3, "damaged → corrupt"),
        (6, "told → reports, prints, raises"),
        (7, "brought → downloads, reads, fetches"),
        (7, "people → you, or nothing"),
    ]


def test_in_tests_only_expected_messages_are_messages() -> None:
    source = 'text = "a damaged text"\nwith raises(E, match=rf"{x} is damaged"):\n    pass\n'
    (content,) = strings(source, test=True)
    assert (content.line, content.text) == (2, " is damaged")
