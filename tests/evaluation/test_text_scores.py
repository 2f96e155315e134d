"""Scores of any text: those of the test split for its text, in parts that add up to the whole."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.generation.terminal import Terminal, save_small, tinyllm
from tests.helpers import random_model, tiny_config
from tinyllm.data.token_store import SplitSummary, TokenSplit
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.final_scores import predict_test
from tinyllm.evaluation.text_scores import Kind, Part, documents_of, score_text
from tinyllm.models.model import Model
from tinyllm.settings.load import load_params

ROOT = Path(__file__).resolve().parents[2]
TEXT = ["One line.\n\n  Another é 😀 one.\nThe last", "\n\n\n", "A document\nof two lines.\n", "x"]


@pytest.fixture
def model(tokenizer: Tokenizer) -> Model:
    return random_model(tiny_config(vocab_size=tokenizer.vocab_size))


def test_the_text_of_the_test_split_gets_the_score_of_the_test_split(
    tokenizer: Tokenizer, model: Model, documents: list[str]
) -> None:
    settings = load_params(ROOT / "params.yaml").evaluate.model_copy(update={"stride": 5})
    tokens = tokenizer.encode_documents(documents)
    n_bytes = sum(len(document.encode()) for document in documents)
    summary = SplitSummary(len(documents), len(tokens), n_bytes, tokenizer.vocab_size, "")
    expected, _ = predict_test(model, tokenizer, TokenSplit(Path(), tokens, summary), settings)
    again = documents_of("<|>".join(documents), "<|>")
    (part,) = score_text(model, tokenizer, again, "all", stride=5)
    assert part.scores == expected and part.n_bytes == n_bytes and part.tokens == len(tokens)


@pytest.mark.parametrize("by", ["document", "line"])
@pytest.mark.parametrize("stride", [None, 5])
def test_the_parts_add_up_to_the_whole(
    tokenizer: Tokenizer, model: Model, by: Kind, stride: int | None
) -> None:
    (whole,) = score_text(model, tokenizer, TEXT, "all", stride=stride)
    parts = score_text(model, tokenizer, TEXT, by, stride=stride)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert "".join(part.text for part in parts) == whole.text == "".join(TEXT)
    assert [part.n_bytes for part in parts] == [len(part.text.encode()) for part in parts]
    assert sum(map(nats, parts)) == pytest.approx(nats(whole))
    assert sum(part.tokens for part in parts) == pytest.approx(whole.tokens)
    right = sum(part.scores.accuracy * part.tokens for part in parts)
    assert right == pytest.approx(whole.scores.accuracy * whole.tokens, abs=1e-9)
    np.testing.assert_array_equal(np.concatenate([p.surprise for p in parts]), whole.surprise)


def nats(part: Part) -> float:
    return part.scores.loss * part.tokens


def test_bits_per_byte_are_of_the_bytes_of_the_part(tokenizer: Tokenizer, model: Model) -> None:
    for part in score_text(model, tokenizer, TEXT, "line"):
        size = len(part.text.encode())
        assert part.scores.bits_per_byte == pytest.approx(nats(part) / math.log(2) / size)


def test_a_document_has_its_tokens_and_the_end_of_it(tokenizer: Tokenizer, model: Model) -> None:
    parts = score_text(model, tokenizer, TEXT, "document")
    assert [part.tokens for part in parts] == [len(tokenizer.encode(text)) + 1 for text in TEXT]


def test_documents_are_cut_as_download_cuts_them() -> None:
    assert documents_of("a\n--\nb\n--\n \n--\n", "\n--\n") == ["a", "b"]
    assert documents_of("a\r\nb", None) == ["a\r\nb"]
    assert documents_of("", None) == documents_of("", "x") == []


@pytest.mark.slow
def test_a_command_scores_a_file_or_standard_input(
    tmp_path: Path, tokenizer: Tokenizer, model: Model
) -> None:
    save_small(tmp_path / "model", tokenizer)
    (tmp_path / "text").write_bytes("x\r\né\n\ny".encode())
    (whole,) = score_text(model, tokenizer, ["x\r\né\n\ny"], "all")
    done = tinyllm("score", "text", "--model", "model", cwd=tmp_path)
    assert f"{whole.scores.bits_per_byte:.4f} bits/byte on 8 bytes" in done.stdout.decode()
    done = tinyllm(
        *("score", "-", "--model", "model", "--by", "document", "--separator", "\n\n", "--json"),
        cwd=tmp_path,
        data=(tmp_path / "text").read_bytes(),
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["text"] for record in records] == ["x\r\né", "y"]
    parts = score_text(model, tokenizer, ["x\r\né", "y"], "document")
    for record, part in zip(records, parts, strict=True):
        assert record["bits_per_byte"] == pytest.approx(part.scores.bits_per_byte, rel=1e-5)
    for content, message in ((b"", "contains no text"), (b"a\xff", "is not UTF-8 (byte 1)")):
        (tmp_path / "text").write_bytes(content)
        done = tinyllm("score", "text", "--model", "model", cwd=tmp_path)
        assert (done.returncode, done.stderr.decode()) == (1, f"error: text: {message}\n")


def test_a_terminal_shows_surprising_tokens_in_colour(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_small(tmp_path / "model", tokenizer)
    (tmp_path / "text").write_text("One line.\nAnother\x1b é 😀 one\n", encoding="utf-8")
    terminal = Terminal("score", "text", "--model", "model", cwd=tmp_path)
    assert terminal.end() == 0
    assert "\x1b[1;31m" in terminal.shown and "\\x1b" in terminal.shown
    plain = Terminal(
        "score", "text", "--model", "model", "--by", "line", cwd=tmp_path, NO_COLOR="1"
    )
    assert plain.end() == 0 and "\x1b[" not in plain.shown
