"""The exported file in llama.cpp: the same tokens, the same text, and its server."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import helpers
from tests.helpers import generator, make_documents, many_texts, random_model, tiny_config
from tests.models.test_hf_tokenizer import byte_pairs  # noqa: F401 (a fixture)
from tinyllm.common.vocabulary import END_OF_TEXT
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.export.facts import Facts
from tinyllm.export.gguf import write_gguf
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Sampling, write
from tinyllm.models.model import Model

pytestmark = pytest.mark.ecosystem

PROMPTS = [
    *("the", "a", "Bace", " fogu haje", "kilo mu na", "perisotuvawe.\nSo", "xi yo zu 12", "Lomu."),
    *("\n", "  ", "ba ce di", "2024", "it's", "é", "日本", "sotu vawexi", "Z", "na. na. na"),
    *("di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu " * 2, END_OF_TEXT),
]


@contextmanager
def server(path: Path, **options: Any) -> Iterator["LlamaCpp"]:
    """llama.cpp's server with a model, in this process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.port = 0  # any free one
    params.n_gpu_layers = 0
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    # Its keys and values are fp16 by default, which moves logits by 1e-3.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    for name, value in options.items():
        setattr(params, name, value)
    running = xllamacpp.Server(params)
    yield LlamaCpp(running.listening_address)
    del running


class LlamaCpp:
    """A running server at an address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def post(self, path: str, **body: Any) -> Any:
        data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, kind)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tokenize(self, text: str) -> list[int]:
        found: list[int] = self.post(
            "/tokenize", content=text, add_special=True, parse_special=False
        )["tokens"]
        return found

    def greedy(self, prompt: list[int], tokens: int) -> list[int]:
        """The most likely tokens after a prompt, up to the end of the text."""
        found: list[int] = self.post(
            "/completion", prompt=prompt, n_predict=tokens, temperature=0, return_tokens=True
        )["tokens"]
        return found


def greedy(model: Model, tokenizer: Tokenizer, prompts: list[list[int]], tokens: int) -> list[Any]:
    """What tinyllm generates."""
    generators = [generator(0) for _ in prompts]
    return write(
        for_inference(model), prompts, Sampling(tokens, temperature=0), generators,
        stop=tokenizer.end_of_text,
    )  # fmt: skip


def model_for(tokenizer: Tokenizer, **changes: Any) -> Model:
    """A model whose logits are far apart, so that rounding chooses no token."""
    shape = {"d_model": 64, "n_head": 2, "context_length": 96, "n_layer": 2} | changes
    return random_model(tiny_config(vocab_size=tokenizer.vocab_size, **shape))


def trained(tokenizer: Tokenizer, documents: list[str]) -> Model:
    """A model that has seen some text, and writes whole letters."""
    model = model_for(tokenizer)
    ids = torch.from_numpy(tokenizer.encode_documents(documents).astype(np.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    chance = generator(2)
    for _ in range(80):
        begin = torch.randint(len(ids) - 33, (8, 1), generator=chance)
        batch = ids[begin + torch.arange(33)]  # (8, 33)
        optimizer.zero_grad()
        (model.loss(batch[:, :-1], batch[:, 1:]) / batch[:, 1:].numel()).backward()
        optimizer.step()
    return model


SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "one layer of narrow heads": {"n_layer": 1, "n_head": 4, "d_model": 32},
    "grouped and tied": {"n_head": 4, "n_kv_head": 2, "tie_embeddings": True},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_llama_cpp_generates_the_same_text(
    name: str, shape: str, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "ARCHITECTURE", name)
    model = model_for(tokenizer, **SHAPES[shape])
    path = tmp_path / "model.gguf"
    write_gguf(path, model, tokenizer, Facts("test"), "0" * 64)
    prompts = [tokenizer.encode(text).tolist() for text in PROMPTS]
    expected = greedy(model, tokenizer, prompts, 30)
    assert len({tuple(tokens) for tokens in expected}) == len(PROMPTS) == 20
    with server(path) as llama:
        for prompt, tokens in zip(prompts, expected, strict=True):
            found = llama.greedy(prompt, 30)
            assert [t for t in found if t != tokenizer.end_of_text] == tokens


def test_llama_cpp_splits_text_into_the_same_tokens(
    tokenizer: Tokenizer,
    byte_pairs: Tokenizer,  # noqa: F811
    tmp_path: Path,
) -> None:
    """With a trained vocabulary, and one whose ids show where text is split."""
    texts = many_texts(1000) + make_documents(50, seed=3)
    for name, each in {"trained": tokenizer, "pairs": byte_pairs}.items():
        path = tmp_path / f"{name}.gguf"
        write_gguf(path, model_for(each), each, Facts("test"), "0" * 64)
        with server(path) as llama:
            for text in texts:
                assert llama.tokenize(text) == each.encode(text).tolist(), repr(text)
            assert llama.post("/detokenize", tokens=each.encode(texts[-1]).tolist()) == {
                "content": texts[-1]
            }


@pytest.mark.usefixtures("tiktoken_cache")
def test_llama_cpp_splits_text_like_gpt2(tmp_path: Path) -> None:
    gpt2 = Tokenizer.named("gpt2")
    path = tmp_path / "gpt2.gguf"
    write_gguf(path, model_for(gpt2), gpt2, Facts("test"), "0" * 64)
    with server(path) as llama:
        for text in many_texts(1000) + make_documents(50, seed=3):
            assert llama.tokenize(text) == gpt2.encode(text).tolist(), repr(text)


def test_end_of_text_is_one_special_token_that_no_text_begins_with(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, model_for(tokenizer), tokenizer, Facts("test"), "0" * 64)
    with server(path) as llama:
        found = llama.post("/tokenize", content=f"a{END_OF_TEXT}", add_special=True)["tokens"]
        assert found == [*tokenizer.encode("a").tolist(), tokenizer.end_of_text]
        assert llama.post("/tokenize", content="", add_special=True)["tokens"] == []


def test_a_quantized_file_generates_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Eight bits are close to fp32, also where a width is no multiple of 32."""
    model = model_for(tokenizer, d_model=96, n_head=3)
    path = tmp_path / "model.gguf"
    notes = write_gguf(path, model, tokenizer, Facts("test"), "0" * 64, "q8_0")
    assert not notes
    prompts = [tokenizer.encode(text).tolist() for text in PROMPTS]
    first = [tokens[0] for tokens in greedy(model, tokenizer, prompts, 1)]
    with server(path) as llama:
        assert llama.post("/completion", prompt="the", n_predict=20)["content"].strip()
        same = [llama.greedy(p, 1)[0] == t for p, t in zip(prompts, first, strict=True)]
        assert sum(same) >= 18


def test_the_openai_client_reads_the_server(
    tokenizer: Tokenizer, documents: list[str], tmp_path: Path
) -> None:
    from openai import OpenAI

    model = trained(tokenizer, documents)
    path = tmp_path / "model.gguf"
    write_gguf(path, model, tokenizer, Facts("test"), "0" * 64)
    prompt = "Bace di fogu"
    (tokens,) = greedy(model, tokenizer, [tokenizer.encode(prompt).tolist()], 20)
    with server(path, model_alias={"test"}) as llama:
        client = OpenAI(base_url=f"{llama.address}/v1", api_key="none")
        assert [each.id for each in client.models.list()] == ["test"]
        whole = client.completions.create(
            model="test", prompt=prompt, max_tokens=20, temperature=0
        ).choices[0]
        assert whole.text == tokenizer.decode(tokens) and whole.text.isascii()
        stream = client.completions.create(
            model="test", prompt=prompt, max_tokens=20, temperature=0, stream=True
        )
        assert "".join(part.choices[0].text for part in stream) == whole.text
