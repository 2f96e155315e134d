"""Programs that people use load the model folder and compute what tinyllm computes.

tests/models/test_folder.py compares logits, gradients and text in transformers.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import generator, random_ids, random_model, tiny_config
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Sampling, write
from tinyllm.models.folder import save_model
from tinyllm.models.model import Model

TASKS = Path(__file__).with_name("lm_eval_tasks")
PROMPTS = ["the", "bace di fogu haje kilo mu na perisotuvawe", "so vaxi", "<|pad|>", "ÿ 2024"]
NEW = 12


@pytest.fixture
def model(tokenizer: Tokenizer) -> Model:
    return random_model(tiny_config(vocab_size=tokenizer.vocab_size, context_length=64))


@pytest.fixture
def folder(model: Model, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", model, tokenizer)
    return tmp_path / "model"


def transformers_model(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **options)


def transformers_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def most_likely(model: Model, tokenizer: Tokenizer, prompt: str) -> str:
    """The most likely continuation of a document's beginning, as tinyllm generates it."""
    ids = [tokenizer.end_of_text, *tokenizer.encode(prompt).tolist()]
    [found] = write(
        for_inference(model), [ids], Sampling(NEW, temperature=0), [generator(0)],
        stop=tokenizer.end_of_text,
    )  # fmt: skip
    return tokenizer.decode(found)


def log_likelihood(model: Model, tokenizer: Tokenizer, context: str, text: str) -> float:
    """Natural logarithm of a text's probability after a document's beginning."""
    before = len(tokenizer.encode(context))
    ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(context + text).tolist()]])
    with torch.no_grad():
        logs = model(ids).log_softmax(dim=-1)[0, :-1]  # (T, V), of each token after the first
    return float(logs.gather(1, ids[0, 1:, None])[before:].sum())


# ----- transformers


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_pipeline_generates_the_text_that_tinyllm_generates(
    model: Model, tokenizer: Tokenizer, folder: Path, batch_size: int
) -> None:
    from transformers import pipeline

    generate = pipeline("text-generation", model=str(folder), batch_size=batch_size)
    prompts = [prompt for prompt in PROMPTS if "<|" not in prompt]  # special in transformers only
    results = generate(prompts, max_new_tokens=NEW, do_sample=False, return_full_text=False)
    found = [result[0]["generated_text"] for result in results]
    assert found == [most_likely(model, tokenizer, prompt) for prompt in prompts]


def test_padding_is_recognised_without_an_attention_mask(folder: Path) -> None:
    theirs, tokenizer = transformers_model(folder), transformers_tokenizer(folder)
    ids = tokenizer(["the", PROMPTS[1]], return_tensors="pt", padding=True)["input_ids"]
    alone = tokenizer("the", return_tensors="pt")["input_ids"]
    together = theirs.generate(ids, max_new_tokens=NEW, do_sample=False)[0, ids.size(1) :]
    expected = theirs.generate(alone, max_new_tokens=NEW, do_sample=False)[0, alone.size(1) :]
    text = tokenizer.decode(together, skip_special_tokens=True)
    assert text == tokenizer.decode(expected, skip_special_tokens=True)


def test_the_usual_data_collator_keeps_the_ends_of_documents(folder: Path) -> None:
    from transformers import DataCollatorForLanguageModeling

    tokenizer = transformers_tokenizer(folder)
    texts = [f"{text}{tokenizer.eos_token}" for text in ("the", "bace di fogu")]
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)([tokenizer(t) for t in texts])
    assert (batch["labels"][:, -1] == tokenizer.eos_token_id).all()
    assert (batch["labels"] == -100).equal(batch["attention_mask"] == 0)


def test_the_weights_are_marked_as_those_of_torch(folder: Path) -> None:
    """transformers refuses weights without this mark."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_accelerate_places_the_layers(model: Model, folder: Path) -> None:
    from accelerate import (  # type: ignore[import-untyped]
        init_empty_weights,
        load_checkpoint_and_dispatch,
    )
    from transformers import AutoConfig, AutoModelForCausalLM

    with init_empty_weights():
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    placed = load_checkpoint_and_dispatch(empty, folder, device_map="auto")
    ids = random_ids(2, 16, vocab_size=model.config.vocab_size)
    with torch.no_grad():
        for theirs in (placed, transformers_model(folder, device_map="auto")):
            torch.testing.assert_close(theirs(ids).logits.cpu(), model(ids), atol=1e-4, rtol=1e-4)


# ----- a server


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """The address of `transformers serve`, which serves the model."""
    pytest.importorskip("fastapi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = folder.parent / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--dtype", "float32", str(folder)],
            env=environment, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 600
    try:
        while not _answers(f"{address}/health"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.ecosystem
def test_transformers_serves_completions(
    model: Model, tokenizer: Tokenizer, folder: Path, server: str
) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"{server}/v1", api_key="none")
    answer = client.completions.create(
        model=str(folder), prompt="so vaxi", max_tokens=NEW, temperature=0
    )
    assert answer.choices[0].text == most_likely(model, tokenizer, "so vaxi")


# ----- the evaluation harness


def harness(folder: Path, tasks: Path, task: str, options: str = "") -> list[dict[str, Any]]:
    """The samples that `lm_eval` logs for a task."""
    own = Path(shutil.copytree(TASKS, tasks))
    for path in own.glob("*.yaml"):
        path.write_text(path.read_text().replace("{folder}", str(own)))
    subprocess.run(
        [
            Path(sys.executable).with_name("lm_eval"), "--model", "hf",
            "--model_args", f"pretrained={folder},dtype=float32{options}", "--device", "cpu",
            "--tasks", task, "--include_path", own, "--batch_size", "2",
            "--output_path", own / "out", "--log_samples",
        ],
        env={**os.environ, "HF_HOME": str(own / "home"), "HF_HUB_OFFLINE": "1"},
        check=True, capture_output=True,
    )  # fmt: skip
    (log,) = (own / "out").rglob("samples_*.jsonl")
    return sorted(map(json.loads, log.read_text().splitlines()), key=lambda s: s["doc_id"])


@pytest.mark.ecosystem
def test_lm_eval_computes_the_log_likelihoods_of_choices(
    model: Model, tokenizer: Tokenizer, folder: Path, tmp_path: Path
) -> None:
    samples = harness(folder, tmp_path / "tasks", "tinyllm_choices")
    assert len(samples) == 4
    for sample in samples:
        found = [float(value[0]) for value in sample["filtered_resps"]]
        document = sample["doc"]
        expected = [
            log_likelihood(model, tokenizer, document["text"].rstrip(), tail)
            for tail in (
                document["text"][len(document["text"].rstrip()) :] + c for c in document["choices"]
            )
        ]
        assert found == pytest.approx(expected, abs=1e-3)
        best = max(range(len(expected)), key=expected.__getitem__)
        assert sample["acc"] == (best == document["answer"])


@pytest.mark.ecosystem
@pytest.mark.parametrize("bos", [False, True])
def test_lm_eval_scores_whole_documents_if_it_adds_no_token(
    model: Model, tokenizer: Tokenizer, folder: Path, tmp_path: Path, bos: bool
) -> None:
    """It puts <|endoftext|> before a document itself; by default it scores the tokenizer's too."""
    options = "" if bos else ",add_bos_token=False"
    for sample in harness(folder, tmp_path / "tasks", "tinyllm_documents", options):
        text = sample["doc"]["text"]
        expected = log_likelihood(model, tokenizer, "", text)
        (found,) = (float(value) for value in sample["filtered_resps"])
        if bos:
            end = torch.tensor([[tokenizer.end_of_text]])
            assert found < expected - 1
            again = log_likelihood_after(model, end, text, tokenizer)
            assert found == pytest.approx(again, abs=1e-3)
        else:
            assert found == pytest.approx(expected, abs=1e-3)


def log_likelihood_after(
    model: Model, before: torch.Tensor, text: str, tokenizer: Tokenizer
) -> float:
    """As `log_likelihood`, with one more <|endoftext|>, which is scored."""
    ids = [tokenizer.end_of_text, *tokenizer.encode(text).tolist()]
    whole = torch.cat([before, torch.tensor([ids])], dim=1)
    with torch.no_grad():
        logs = model(whole).log_softmax(dim=-1)[0, :-1]
    return float(logs.gather(1, whole[0, 1:, None]).sum())


# ----- fine-tuning


@pytest.mark.ecosystem
def test_peft_trains_an_adapter_that_merges(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    tokenizer = transformers_tokenizer(folder)
    batch = tokenizer(["the bace di fogu", "so vaxi haje"], return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    torch.manual_seed(0)
    adapted = get_peft_model(
        transformers_model(folder), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    )
    optimizer = torch.optim.AdamW(adapted.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        loss = adapted(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    adapted.save_pretrained(str(tmp_path / "adapter"))
    read = PeftModel.from_pretrained(transformers_model(folder), str(tmp_path / "adapter"))
    with torch.no_grad():
        expected = adapted.eval()(**batch).logits
        torch.testing.assert_close(read.eval()(**batch).logits, expected)
        merged = read.merge_and_unload()
        torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-4, rtol=1e-4)
