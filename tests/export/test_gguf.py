"""The GGUF file: what it holds, its bytes, and what it refuses."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiktoken
from gguf import GGMLQuantizationType as Type

from tests import helpers
from tests.helpers import ROOT, flip_bit, random_model, tiny_config
from tinyllm.common.files import read_json, seal, sha256_of
from tinyllm.common.vocabulary import END_OF_TEXT
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.export.facts import Facts
from tinyllm.export.gguf import GGUF, pre_tokenizer_of, tensors_of, verify, write_gguf
from tinyllm.models.folder import WEIGHTS, save_model
from tinyllm.models.huggingface import weights_to_hf
from tinyllm.models.model import Model

FACTS = Facts(
    "little",
    training_data="docstrings of pandas",
    licence="BSD-3-Clause",
    commit="c" * 40,
    repository="https://example.com/tinyllm",
)


def model_for(tokenizer: Tokenizer, **changes: Any) -> Model:
    return random_model(tiny_config(vocab_size=tokenizer.vocab_size, **changes))


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(tmp_path / "little", model_for(tokenizer), tokenizer)
    return tmp_path / "little"


def metadata(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def test_the_file_says_what_it_is(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    GGUF().write(tmp_path / "model.gguf", folder, FACTS, None)
    found = metadata(tmp_path / "model.gguf")
    theirs = read_json(folder / "tokenizer_config.json")
    assert (
        found
        | {
            "general.architecture": "qwen3",
            "general.name": "little",
            "general.license": "BSD-3-Clause",
            "general.dataset.count": 1,
            "general.dataset.0.name": "docstrings of pandas",
            "general.source.repo_url": "https://example.com/tinyllm",
            "tinyllm.commit": "c" * 40,
            "tinyllm.weights_sha256": sha256_of(folder / WEIGHTS),
            "qwen3.context_length": 16,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "llama-bpe",
            "tokenizer.ggml.eos_token_id": tokenizer.end_of_text,
            "tokenizer.ggml.add_bos_token": theirs.get("add_bos_token", False),
        }
        == found
    )
    assert found["tokenizer.ggml.tokens"][tokenizer.end_of_text] == END_OF_TEXT
    assert found["tokenizer.ggml.token_type"] == [1] * tokenizer.end_of_text + [3]


def test_llama_cpp_begins_a_text_as_transformers_does(folder: Path, tmp_path: Path) -> None:
    config = folder / "tokenizer_config.json"
    for begins in (True, False):
        config.write_text(json.dumps(read_json(config) | {"add_bos_token": begins}))
        seal(folder)
        GGUF().write(tmp_path / "model.gguf", folder, FACTS, None)
        assert metadata(tmp_path / "model.gguf")["tokenizer.ggml.add_bos_token"] is begins


def test_what_is_unknown_is_not_in_the_file(folder: Path, tmp_path: Path) -> None:
    GGUF().write(tmp_path / "model.gguf", folder, Facts("little"), None)
    names = metadata(tmp_path / "model.gguf").keys()
    assert not {
        n for n in names if "license" in n or "dataset" in n or "repo" in n or "commit" in n
    }


@pytest.mark.parametrize("quantize", [None, "q8_0"])
def test_the_same_model_gives_the_same_bytes(
    folder: Path, tmp_path: Path, quantize: str | None
) -> None:
    for name in ("one.gguf", "two.gguf"):
        GGUF().write(tmp_path / name, folder, FACTS, quantize)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"little", "one.gguf", "two.gguf"}


def test_fp32_keeps_every_bit(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = model_for(tokenizer)
    write_gguf(tmp_path / "model.gguf", model, tokenizer, FACTS, "0" * 64)
    found = {each.name: each.data for each in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    weights = weights_to_hf(model.state_dict(), model.hf_names())
    assert len(found) == len(weights)
    for ours, theirs in {
        "token_embd.weight": "model.embed_tokens.weight",
        "output.weight": "lm_head.weight",
        "blk.1.attn_k.weight": "model.layers.1.self_attn.k_proj.weight",
        "blk.0.ffn_gate.weight": "model.layers.0.mlp.gate_proj.weight",
    }.items():
        assert np.array_equal(found[ours], weights[theirs].numpy())


def test_q8_0_is_close_and_takes_about_a_quarter(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A block of 32 values has one scale, and its largest value is 127 steps from zero."""
    model = model_for(tokenizer, d_model=96, n_head=3)  # its MLP is 256 wide
    path = tmp_path / "model.gguf"
    assert write_gguf(path, model, tokenizer, FACTS, "0" * 64, "q8_0") == []
    exact = {each.name: each for each in tensors_of(model, gguf.MODEL_ARCH.QWEN3, Type.F32)}
    for found in gguf.GGUFReader(path).tensors:
        wanted = exact[found.name].data
        assert found.tensor_type == (Type.Q8_0 if wanted.ndim > 1 else Type.F32)
        values = gguf.quants.dequantize(found.data, found.tensor_type)
        if wanted.ndim > 1:
            largest = np.abs(wanted.reshape(-1, 32)).max(axis=1, keepdims=True)
            off = np.abs(values - wanted).reshape(-1, 32)
            assert (off <= 0.57 * largest / 127).all()  # the scale is rounded to 11 bits
            assert found.n_bytes * 32 == wanted.size * 34
        else:
            assert np.array_equal(values, wanted)


def test_a_matrix_that_blocks_do_not_fit_is_stored_as_fp16(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = model_for(tokenizer)  # 32 wide, its MLP 88
    (note,) = write_gguf(tmp_path / "model.gguf", model, tokenizer, FACTS, "0" * 64, "q8_0")
    assert note == (
        "2 of 16 matrices (ffn_down) are stored as fp16: their rows have 88 values, not a multiple "
        "of 32"
    )
    kinds = {
        each.name: each.tensor_type for each in gguf.GGUFReader(tmp_path / "model.gguf").tensors
    }
    assert kinds["blk.0.ffn_down.weight"] == Type.F16
    assert kinds["blk.0.ffn_up.weight"] == kinds["token_embd.weight"] == Type.Q8_0


def test_nanochat_is_refused(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "ARCHITECTURE", "nanochat")
    with pytest.raises(ValueError, match=r"llama\.cpp has no architecture for nanochat .*qwen3"):
        write_gguf(tmp_path / "model.gguf", model_for(tokenizer), tokenizer, FACTS, "0" * 64)
    assert not list(tmp_path.iterdir())


def test_an_encoding_that_llama_cpp_splits_differently_is_refused() -> None:
    encoding = tiktoken.Encoding(
        "cl100k_base",
        pat_str=r"\p{L}+|\P{L}",
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={END_OF_TEXT: 256},
    )
    with pytest.raises(ValueError, match=r"can't split text like the encoding cl100k_base"):
        pre_tokenizer_of(Tokenizer(encoding))


@pytest.mark.usefixtures("tiktoken_cache")
def test_gpt2_is_known() -> None:
    assert pre_tokenizer_of(Tokenizer.named("gpt2")) == "gpt-2"


def test_a_file_that_is_no_gguf_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt exists and is no GGUF file"):
        GGUF().write(tmp_path / "notes.txt", folder, FACTS, None)
    with pytest.raises(ValueError, match=r"little is a folder; name the file"):
        GGUF().write(folder, folder, FACTS, None)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "old.gguf").write_bytes(b"GGUF of before")
    GGUF().write(tmp_path / "old.gguf", folder, FACTS, None)
    assert "general.name" in metadata(tmp_path / "old.gguf")


def test_a_file_that_differs_from_what_was_written_is_found(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model, path = model_for(tokenizer), tmp_path / "model.gguf"
    write_gguf(path, model, tokenizer, FACTS, "0" * 64)
    tensors = list(tensors_of(model, gguf.MODEL_ARCH.QWEN3, Type.F32))
    verify(path, tensors)
    good = path.read_bytes()
    for place in (-40, len(good) // 2, len(good) - 5000):
        flip_bit(path, place)
        with pytest.raises(ValueError, match=r"model\.gguf is corrupt after writing"):
            verify(path, tensors)
        path.write_bytes(good)
    for size in (0, 10, 5000, len(good) // 2, len(good) - 32):
        os.truncate(path, size)
        with pytest.raises(ValueError, match=r"model\.gguf is corrupt after writing"):
            verify(path, tensors)
        path.write_bytes(good)


def test_a_file_that_changes_on_its_way_to_the_disk_is_not_published(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faulty(gguf.GGUFWriter):
        def close(self) -> None:
            super().close()
            assert self.path is not None
            flip_bit(self.path, -40)

    monkeypatch.setattr(gguf, "GGUFWriter", Faulty)
    with pytest.raises(ValueError, match="is corrupt after writing"):
        write_gguf(tmp_path / "model.gguf", model_for(tokenizer), tokenizer, FACTS, "0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_previous_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(before := b"GGUF of before")
    code = (
        "import sys; from pathlib import Path; from tinyllm.export.facts import Facts; "
        "from tinyllm.export.gguf import GGUF; "
        "GGUF().write(Path(sys.argv[1]), Path(sys.argv[2]), Facts('little'), None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.gguf"), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )
    assert done.returncode != 0 and "OSError" in done.stderr
    assert (tmp_path / "model.gguf").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"little", "model.gguf"}
