"""The model folder contains the trained model, for tinyllm and for transformers."""

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import (
    assert_same_weights,
    flip_bit,
    generator,
    random_ids,
    random_model,
    random_text,
    tiny_config,
)
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Sampling, write
from tinyllm.models.config import ModelConfig
from tinyllm.models.folder import load_model, save_model
from tinyllm.models.huggingface import weights_to_hf
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM

pytestmark = pytest.mark.usefixtures("architecture")


def config_for(tokenizer: Tokenizer, **changes: Any) -> ModelConfig:
    return tiny_config(vocab_size=tokenizer.vocab_size, **changes)


def in_transformers(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(
    params=[
        {},
        {"n_layer": 1, "n_head": 1, "d_model": 8},
        {"n_layer": 3, "n_head": 4, "d_model": 24, "context_length": 50, "dropout": 0.2},
        {"n_head": 4, "n_kv_head": 2, "tie_embeddings": True},
    ]
)
def model(request: pytest.FixtureRequest, architecture: str, tokenizer: Tokenizer) -> Model:
    del architecture  # random_model uses it
    return random_model(config_for(tokenizer, **request.param))


# ----- in transformers


def test_transformers_computes_the_same_logits(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", model, tokenizer)
    theirs = in_transformers(tmp_path / "model")
    assert theirs.num_parameters() == model.n_parameters
    ids = random_ids(3, model.config.context_length, vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        ours = model(ids)
        assert ours.std() > 0.1  # every weight matters
        torch.testing.assert_close(theirs(ids).logits, ours, atol=1e-4, rtol=1e-4)


def test_initial_weights_give_the_same_logits_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = TinyLLM(config_for(tokenizer), generator(1)).eval()
    save_model(tmp_path / "model", model, tokenizer)
    ids = random_ids(2, 16, vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        theirs = in_transformers(tmp_path / "model")(ids).logits
        torch.testing.assert_close(theirs, model(ids), atol=1e-4, rtol=1e-4)


def test_transformers_computes_the_same_gradient(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """transformers uses autograd on plain operations."""
    save_model(tmp_path / "model", model, tokenizer)
    theirs = in_transformers(tmp_path / "model")
    ids = random_ids(3, model.config.context_length + 1, vocab_size=tokenizer.vocab_size)
    ids[:, 3] = tokenizer.end_of_text  # it is trained like any other token
    ids[ids == theirs.config.pad_token_id] = 0  # which transformers does not train
    inputs, targets = ids[:, :-1], ids[:, 1:]
    model.loss(inputs, targets).backward()
    logits = theirs(inputs).logits.flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum").backward()
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    gradient = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = weights_to_hf(gradient, model.hf_names())
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        assert (grad - expected[name]).norm() <= 1e-4 * expected[name].norm(), name


def test_transformers_generates_the_same_text(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", model, tokenizer)
    theirs = in_transformers(tmp_path / "model")
    prompt = random_ids(1, 4, vocab_size=tokenizer.vocab_size)
    found = theirs.generate(prompt, max_new_tokens=10, do_sample=False)[0, 4:].tolist()
    [tokens] = write(
        for_inference(model), prompt.tolist(), Sampling(10, temperature=0), [generator(0)],
        stop=tokenizer.end_of_text,
    )  # fmt: skip
    assert tokens == [t for t in found if t != tokenizer.end_of_text]


def test_transformers_loads_the_tokenizer(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    save_model(tmp_path / "model", model, tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    chance = random.Random(1)
    for text in ["Hello, world. 2024\n", *(random_text(chance, 12) for _ in range(100))]:
        ids = tokenizer.encode(text).tolist()
        assert theirs(text)["input_ids"] == [tokenizer.end_of_text, *ids]
    assert theirs.eos_token_id == tokenizer.end_of_text


@pytest.mark.parametrize(
    "padding", [{"padding": True}, {"padding": "max_length", "max_length": 40}]
)
def test_transformers_generates_the_same_for_batched_prompts_of_any_length(
    tokenizer: Tokenizer, tmp_path: Path, padding: dict[str, Any]
) -> None:
    from transformers import AutoTokenizer

    model = random_model(config_for(tokenizer, context_length=64))
    save_model(tmp_path / "model", model, tokenizer)
    theirs = in_transformers(tmp_path / "model")
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    long = "bace di fogu haje kilo mu na perisotuvawe"
    prompts = ["the", long, "so vaxi", "Z", "<|endoftext|>the", "so<|endoftext|>", "ÿ", "a<|pad|>"]

    def write_all(prompts: list[str], **padding: Any) -> list[str]:
        batch = their_tokenizer(prompts, return_tensors="pt", **padding)
        ids = theirs.generate(**batch, max_new_tokens=12, do_sample=False)
        new = ids[:, batch["input_ids"].size(1) :]  # padded after the end of a text
        texts: list[str] = their_tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts

    alone = [text for prompt in prompts for text in write_all([prompt])]
    assert len(set(alone)) > len(prompts) / 2
    assert write_all(prompts, **padding) == alone


# ----- and back


def test_a_saved_model_is_loaded_bit_by_bit(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", model, tokenizer)
    loaded, loaded_tokenizer = load_model(tmp_path / "model")
    assert loaded.config == model.config
    assert_same_weights(loaded, model)
    ids = random_ids(2, model.config.context_length, vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids), model(ids))
    assert loaded_tokenizer.encoding._mergeable_ranks == tokenizer.encoding._mergeable_ranks


def test_the_folder_has_the_same_bytes_every_time(
    model: Model, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path / "one", model, tokenizer)
    save_model(tmp_path / "two", *load_model(tmp_path / "one"))
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_weights_contain_no_pickle(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model(config_for(tokenizer)), tokenizer)
    suffixes = {path.suffix for path in (tmp_path / "model").iterdir()}
    assert suffixes == {".safetensors", ".json", ".tiktoken"}


@pytest.fixture
def saved(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(tmp_path / "good", random_model(config_for(tokenizer)), tokenizer)
    return tmp_path / "good"


def test_corrupt_weights_are_an_error(saved: Path, tmp_path: Path) -> None:
    good = (saved / "model.safetensors").read_bytes()
    chance = random.Random(1)
    places = [0, 8, 20, len(good) - 1, *(chance.randrange(len(good)) for _ in range(20))]
    bad = Path(shutil.copytree(saved, tmp_path / "bad"))
    for place in places:
        (bad / "model.safetensors").write_bytes(good)
        flip_bit(bad / "model.safetensors", place)
        with pytest.raises(ValueError, match=r"model\.safetensors is corrupt"):
            load_model(bad)
    for data in (b"", good[: len(good) // 2], good + b"\0"):
        (bad / "model.safetensors").write_bytes(data)
        with pytest.raises(ValueError, match=r"model\.safetensors is corrupt"):
            load_model(bad)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "encoding.json"])
def test_a_file_missing_from_the_folder_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ValueError, match=name):
        load_model(saved)


def test_a_configuration_of_another_size_is_an_error(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    for key, value in [("rms_norm_eps", 1e-5), ("architectures", ["LlamaForCausalLM"])]:
        (saved / "config.json").write_text(json.dumps(config | {key: value}))
        with pytest.raises(ValueError, match=r"config\.json"):
            load_model(saved)


def test_a_failed_save_keeps_the_previous_model(saved: Path, tokenizer: Tokenizer) -> None:
    before = (saved / "model.safetensors").read_bytes()
    model = random_model(config_for(tokenizer, dropout=math.nan), seed=2)  # JSON has no NaN
    with pytest.raises(ValueError):
        save_model(saved, model, tokenizer)
    assert (saved / "model.safetensors").read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["good"]
