"""A model folder that is not whole, or not tinyllm's, is an error of one line.

Each test changes a real folder in one way. The checksums are renewed, so that they don't find the
fault.
"""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import random_model, tiny_config
from tinyllm.common.files import CHECKSUMS, seal
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.folder import CONFIG, WEIGHTS, load_model, save_model

Fault = Callable[[Path], object]
MARKER = "opened"


class Trap:
    """Loading a pickle of this object creates a file."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch '{folder / MARKER}'"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    model = random_model(tiny_config(vocab_size=tokenizer.vocab_size, n_head=4, n_kv_head=2))
    save_model(tmp_path / "model", model, tokenizer)
    return tmp_path / "model"


def config(**changes: Any) -> Fault:
    """Change values of config.json; None deletes one."""

    def change(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text()) | changes
        kept = {
            name: value
            for name, value in values.items()
            if name not in changes or value is not None
        }
        (folder / CONFIG).write_text(json.dumps(kept))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Fault:
    """Change the tensors of the weights' file."""

    def rewrite(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return rewrite


def header(change: Callable[[dict[str, Any]], object]) -> Fault:
    """Change the header of the weights' file, but not the bytes that it describes."""

    def rewrite(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        entries = json.loads(data[8 : 8 + length])
        change(entries)
        new = json.dumps(entries).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return rewrite


def file(name: str, content: bytes | str) -> Fault:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def without(*names: str) -> Fault:
    def delete(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return delete


def cut(name: str, size: int) -> Fault:
    return lambda folder: os.truncate(folder / name, size)


def pickled(name: str) -> Fault:
    """A pickle in place of the weights."""

    def plant(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        with (folder / name).open("wb") as file:
            torch.save({"weight": Trap(folder)}, file)

    return plant


def plain_pickle(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(folder)))


def encoding(**changes: Any) -> Fault:
    """Change values of encoding.json."""

    def change(folder: Path) -> None:
        values = json.loads((folder / "encoding.json").read_text()) | changes
        (folder / "encoding.json").write_text(json.dumps(values))

    return change


def vocabulary(change: Callable[[list[str]], object]) -> Fault:
    """Change the lines of the vocabulary: base64 of a token, its id."""

    def rewrite(folder: Path) -> None:
        path = folder / "vocabulary.tiktoken"
        lines = path.read_text().splitlines()
        change(lines)
        path.write_text("\n".join(lines) + "\n")

    return rewrite


def both(*faults: Fault) -> Fault:
    return lambda folder: [fault(folder) for fault in faults]


NORM = "model.norm.weight"
FAULTS: dict[str, tuple[Fault, str]] = {
    # a file is missing
    "no weights": (without(WEIGHTS), r"model\.safetensors is missing"),
    "no configuration": (without(CONFIG), r"config\.json is missing"),
    "no vocabulary": (without("vocabulary.tiktoken"), r"vocabulary\.tiktoken is missing"),
    # the folder is of another kind
    "an adapter": (
        file("adapter_config.json", '{"peft_type": "LORA"}'),
        r"adapter_config\.json: this is an adapter .* for another model",
    ),
    "only an adapter": (
        both(without(WEIGHTS), file("adapter_config.json", "{}")),
        r"adapter_config\.json: this is an adapter",
    ),
    "several weight files": (
        both(without(WEIGHTS), file("model.safetensors.index.json", "{}")),
        r"model\.safetensors\.index\.json: the weights are split into several files",
    ),
    "a pickle": (pickled("pytorch_model.bin"), r"pytorch_model\.bin is a pickle; .* not opened"),
    "another pickle": (pickled("model.pt"), r"model\.pt is a pickle; it was not opened"),
    "torch's pickle as weights": (
        pickled(WEIGHTS), r"model\.safetensors is a pickle under another name; it was not opened",
    ),
    "a pickle as weights": (plain_pickle, r"model\.safetensors is a pickle under another name"),
    "a Git LFS pointer": (
        file(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"),
        r"model\.safetensors is a Git LFS pointer.*git lfs pull",
    ),
    "a GGUF file as weights": (
        file(WEIGHTS, b"GGUF" + bytes(100)), r"model\.safetensors is corrupt",
    ),
    # the weights
    "empty weights": (file(WEIGHTS, b""), r"model\.safetensors is corrupt"),
    "weights cut in the header": (cut(WEIGHTS, 100), r"model\.safetensors is corrupt"),
    "weights cut in a tensor": (cut(WEIGHTS, 9000), r"model\.safetensors is corrupt"),
    "a header of another shape": (
        header(lambda entries: entries[NORM].update(shape=[4, 8])),
        r"model\.norm\.weight has the shape \(4, 8\), but config\.json requires \(32,\)",
    ),
    "a header with overlapping tensors": (
        header(lambda entries: entries[NORM].update(data_offsets=[0, 128])),
        r"model\.safetensors is corrupt",
    ),
    "a header with a tensor beyond the end": (
        header(lambda entries: entries[NORM].update(shape=[10**12])),
        r"model\.safetensors is corrupt",
    ),
    "a header with other types": (
        header(lambda entries: entries[NORM].update(dtype="I32")),
        r"model\.norm\.weight has the type I32, must be F32",
    ),
    "half precision": (
        tensors(lambda weights: weights.update({NORM: weights[NORM].bfloat16()})),
        r"model\.norm\.weight has the type BF16, must be F32",
    ),
    "a missing tensor": (
        tensors(lambda weights: weights.pop("lm_head.weight")),
        r"model\.safetensors lacks 1 of \d+ tensors .* like lm_head\.weight",
    ),
    "another tensor": (
        tensors(lambda weights: weights.update(extra=torch.zeros(3))),
        r"model\.safetensors: extra is no tensor of the network in config\.json",
    ),
    "a tensor of another shape": (
        tensors(lambda weights: weights.update({NORM: torch.ones(16)})),
        r"model\.norm\.weight has the shape \(16,\), but config\.json requires \(32,\)",
    ),
    "NaN": (
        tensors(lambda weights: weights[NORM][3:5].fill_(float("nan"))),
        r"model\.safetensors: model\.norm\.weight: 2 of 32 values are infinite or NaN",
    ),
    "infinity": (
        tensors(lambda weights: weights[NORM][3].fill_(float("-inf"))),
        r"model\.safetensors: model\.norm\.weight: 1 of 32 values are infinite or NaN",
    ),
    # the configuration
    "no JSON": (file(CONFIG, "{"), r"config\.json is corrupt"),
    "no object": (file(CONFIG, "[1]"), r"config\.json: architectures is None"),
    "another architecture": (
        config(architectures=["GPT2LMHeadModel"]), r"config\.json: architectures is \['GPT2LM",
    ),
    "a nested architecture": (config(architectures=[["x"]]), r"config\.json: architectures is"),
    "one of the others": (
        config(architectures=["LlamaForCausalLM"]), r"config\.json: model_type is 'qwen3', but",
    ),
    "a missing value": (config(hidden_size=None), r"config\.json: hidden_size is missing"),
    "a missing constant": (config(rms_norm_eps=None), r"config\.json: rms_norm_eps is missing"),
    "a text": (
        config(hidden_size="32"), r"config\.json: hidden_size is '32', must be a whole number",
    ),
    "a fraction": (config(hidden_size=32.0), r"hidden_size is 32\.0, must be a whole number"),
    "zero heads": (config(num_attention_heads=0), r"num_attention_heads is 0, must be"),
    "a width that heads don't divide": (
        config(hidden_size=30), r"hidden_size 30 must be a multiple of 2 \* num_attention_heads",
    ),
    "groups that don't fit": (
        config(num_key_value_heads=3), r"num_key_value_heads 3 must divide num_attention_heads 4",
    ),
    "more layers": (config(num_hidden_layers=3), r"lacks \d+ of \d+ tensors"),
    "fewer layers": (config(num_hidden_layers=1), r"layers\.1\.\S+ is no tensor of the network"),
    "very many layers": (
        config(num_hidden_layers=10_000_000),
        r"num_hidden_layers is 10,000,000, but model\.safetensors has only \d+ tensors",
    ),
    "a vocabulary that fits no memory": (
        config(vocab_size=10**15), r"vocab_size is 10{15}, must be a whole number from 1 to",
    ),
    "a large vocabulary": (
        config(vocab_size=10_000_000), r"has the shape \(320, 32\), but config\.json requires",
    ),
    "another epsilon": (
        config(rms_norm_eps=1e-5), r"rms_norm_eps is 1e-05, but tinyllm's network has 1e-06",
    ),
    "another rotation": (
        config(rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        r"config\.json: rope_parameters is .* but tinyllm's network has",
    ),
    "biases": (config(attention_bias=True), r"attention_bias is True, but tinyllm's network has"),
    "a tied head": (
        config(tie_word_embeddings=True), r"lm_head\.weight is no tensor of the network",
    ),
    "a tied head in words": (
        config(tie_word_embeddings="no"), r"tie_word_embeddings is 'no', must be true or false",
    ),
    "dropout": (config(attention_dropout=1.5), r"attention_dropout is 1\.5, must be from 0 to"),
    # the tokenizer
    "another end of text": (
        config(eos_token_id=1, bos_token_id=1),
        r"config\.json: eos_token_id is 1, but the tokenizer in vocabulary\.tiktoken has 319",
    ),
    "one token less": (
        both(vocabulary(lambda lines: lines.pop()),
             encoding(vocab_size=319, special_tokens={"<|endoftext|>": 318})),
        r"config\.json: vocab_size is 320, but the tokenizer in vocabulary\.tiktoken has 319",
    ),
    "a vocabulary cut short": (
        vocabulary(lambda lines: lines.__delitem__(slice(200, None))),
        r"vocabulary\.tiktoken: the byte 200 has no token",
    ),
    "a line that is no token": (
        vocabulary(lambda lines: lines.insert(3, "!!! 7")),
        r"vocabulary\.tiktoken, line 4: must be a base64 token and an id",
    ),
    "the same id twice": (
        vocabulary(lambda lines: lines.__setitem__(300, lines[300].split()[0] + " 299")),
        r"vocabulary\.tiktoken: several tokens have the same id",
    ),
    "a negative id": (
        vocabulary(lambda lines: lines.__setitem__(300, lines[300].split()[0] + " -1")),
        r"vocabulary\.tiktoken: ids must be from 0",
    ),
    "an encoding without a pattern": (
        encoding(pattern=None), r"encoding\.json: pattern is None, must be of the type str",
    ),
    "a pattern that can't be read": (encoding(pattern="("), r"encoding\.json: pattern: "),
    "no end of text": (
        encoding(special_tokens={"<|end|>": 319}),
        r"encoding\.json: special_tokens: <\|endoftext\|> is missing",
    ),
    "an end of text with a used id": (
        encoding(special_tokens={"<|endoftext|>": 7}),
        r"encoding\.json: special_tokens: the id of <\|endoftext\|> is 7, must be an unused",
    ),
    "a description of another size": (
        encoding(vocab_size=400), r"encoding\.json: vocab_size is 400, but .* has 320 ids",
    ),
    "a description that is no object": (file("encoding.json", "3"), r"encoding\.json: must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_an_error_that_names_the_file(name: str, folder: Path) -> None:
    fault, message = FAULTS[name]
    fault(folder)
    seal(folder)
    with pytest.raises(ValueError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (folder / MARKER).exists()


def test_a_folder_of_another_program_is_an_error(folder: Path) -> None:
    (folder / CHECKSUMS).unlink()
    with pytest.raises(ValueError, match=r"checksums\.json is missing; tinyllm reads only model"):
        load_model(folder)


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"model\.gguf is a file, not a model folder"):
        load_model(tmp_path / "model.gguf")
    with pytest.raises(ValueError, match=r"nothing is missing"):
        load_model(tmp_path / "nothing")


def test_further_files_are_ignored(folder: Path) -> None:
    """A README, or weights in other formats beside ours, which are never opened."""
    (folder / "README.md").write_text("# A model")
    with (folder / "pytorch_model.bin").open("wb") as file:
        torch.save(Trap(folder), file)
    load_model(folder)
    assert not (folder / MARKER).exists()
