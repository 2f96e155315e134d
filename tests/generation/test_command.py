"""`tinyllm generate` as a user runs it: in a pipe, on a terminal, interrupted."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.generation.terminal import Terminal, environment, save_small, tinyllm
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.generation.sampling import Sampling
from tinyllm.generation.text import Completion, TextGenerator
from tinyllm.models.folder import load_model

ENDLESS = ("--max-tokens", "100000000", "--temperature", "0")  # this model never ends a text then
DIM, RESET = "\x1b[2m", "\x1b[0m"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A folder, in no project, with a model in it."""
    root = tmp_path_factory.mktemp("outside")
    save_small(root / "model", tokenizer)
    return root


def expected(
    project: Path, prompt: str, sampling: Sampling, count: int = 1, seed: int = 1337
) -> list[Completion]:
    generator = TextGenerator(*load_model(project / "model"))
    return generator.complete([prompt] * count, sampling, seed=seed, scored=True)


def test_a_pipe_gets_the_prompt_and_the_text(project: Path) -> None:
    """The last line feed of standard input ends its line and is not part of the prompt."""
    prompt = "Some text.\nAnd ü"
    (text,) = expected(project, prompt, Sampling(200, 0.8, 50))
    done = tinyllm("generate", "--model", "model", cwd=project, data=f"{prompt}\n".encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().removesuffix("\n") == f"{prompt}{text.text}".removesuffix("\n")


def test_json_has_the_tokens_of_each_text_in_any_encoding(project: Path) -> None:
    sampling = Sampling(12, 0.9, top_p=0.9, min_p=0.01, repetition_penalty=1.2)
    texts = expected(project, "é", sampling, count=3, seed=5)
    flags = "--max-tokens 12 --temperature 0.9 --top-k 0 --top-p 0.9 --min-p 0.01 --seed 5"
    done = tinyllm(
        *("generate", "é", "--model", "model", "-n", "3", "--json", *flags.split()),
        *("--repetition-penalty", "1.2"),
        cwd=project,
        PYTHONIOENCODING="ascii",
    )
    records = [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]
    assert [record["index"] for record in records] == [0, 1, 2]
    for record, text in zip(records, texts, strict=True):
        assert (record["prompt"], record["seed"]) == ("é", 5)
        assert (record["text"], record["finish_reason"]) == (text.text, text.finish_reason)
        assert [token["id"] for token in record["tokens"]] == text.tokens
        found = [token["log_probability"] for token in record["tokens"]]
        assert found == pytest.approx(text.log_probabilities, abs=1e-4)


def test_all_wrong_options_are_reported_at_once(project: Path) -> None:
    flags = "--top-k x --top-p 2 --temperature -1 --seed -4 -n 0 --min-p 3 --max-tokens 1.5"
    done = tinyllm("generate", "a", *flags.split(), "--stop", "", cwd=project)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.decode().splitlines() == [
        "error: 8 wrong options:",
        "--max-tokens 1.5: must be a whole number",
        "--temperature -1: must be 0 or more",
        "--top-k x: must be a whole number",
        "--top-p 2: must be above 0 and up to 1",
        "--min-p 3: must be from 0 to 1",
        "--seed -4: must be from 0 to 9223372036854775807",
        "-n 0: must be 1 or more",
        "--stop '': must not be empty",
    ]


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        (["a"], b"", "this folder is not in a project: name a model with --model"),
        (["--model", "model"], b"a\xff", "standard input: is not UTF-8 (byte 1)"),
        (["a", "--model", "none"], b"", "none: no such folder; "),
    ],
)
def test_what_is_missing_is_an_error_in_one_line(
    project: Path, arguments: list[str], data: bytes, message: str
) -> None:
    done = tinyllm("generate", *arguments, cwd=project, data=data)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1 and line.startswith(f"error: {message}")


def test_a_closed_pipe_ends_the_text(project: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tinyllm", "generate", "Some text", "--model", "model", *ENDLESS],
        cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(10).startswith(b"Some text")
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


def test_a_terminal_without_utf8_shows_escapes(project: Path) -> None:
    done = tinyllm(
        *("generate", "é", "--model", "model", "--max-tokens", "20"),
        cwd=project,
        LC_ALL="C",
        PYTHONIOENCODING="ascii",
    )
    assert done.returncode == 0 and done.stderr == b""
    assert done.stdout.startswith(b"\\xe9")


def test_each_line_on_a_terminal_is_a_prompt(project: Path) -> None:
    """The line can be edited, each text has its own seed, and an empty line ends the session."""
    terminal = Terminal("generate", "--model", "model", "--max-tokens", "9", cwd=project)
    sampling = Sampling(9, 0.8, 50)
    for turn in range(2):
        terminal.wait_for("> ")
        terminal.type("ax\x7fb\n")  # x is deleted
        (text,) = expected(project, "ab", sampling, seed=1337 + turn)
        terminal.wait_for(f"{DIM}ab{RESET}{on_screen(text.text)}")
    terminal.wait_for("> ")
    terminal.type("\n")
    assert terminal.end() == 0 and "Traceback" not in terminal.shown


def test_ctrl_d_ends_the_session_and_no_color_is_respected(project: Path) -> None:
    terminal = Terminal("generate", "--model", "model", cwd=project, NO_COLOR="1")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown and DIM not in terminal.shown


@pytest.mark.parametrize("interactive", [False, True])
def test_ctrl_c_ends_the_text_politely(project: Path, interactive: bool) -> None:
    prompt = [] if interactive else ["Some text"]
    terminal = Terminal("generate", *prompt, "--model", "model", *ENDLESS, cwd=project)
    if interactive:
        terminal.wait_for("> ")
        terminal.type("Some text\n")
    terminal.wait_for(f"{DIM}Some text{RESET}")
    time.sleep(0.2)  # some of the text
    terminal.type("\x03")
    terminal.wait_for("\r\ninterrupted\r\n")
    modes = terminal.settings()
    assert terminal.end() == 130 and "Traceback" not in terminal.shown
    assert modes == terminal.modes


def test_ctrl_c_at_the_prompt_ends_the_session(project: Path) -> None:
    """Python loses a Ctrl-C between the printing of a prompt and the reading of its first key."""
    terminal = Terminal("generate", "--model", "model", cwd=project)
    terminal.wait_for("> ")
    terminal.wait_for_input()
    terminal.type("\x03")
    terminal.wait_for("interrupted")
    modes = terminal.settings()
    assert terminal.end() == 130 and "Traceback" not in terminal.shown
    assert modes == terminal.modes


def on_screen(text: str) -> str:
    """A text as a terminal shows it: control characters escaped, a line feed as two characters."""
    escaped = "".join(
        f"\\x{ord(c):02x}" if (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 else c
        for c in text
    )
    return escaped.replace("\n", "\r\n")
