"""A model card is what the Hub reads, says what is known, and is the same for the same model."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import random_model, tiny_config
from tinyllm.common.files import checked, sha256_of
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.model_card.facts import Evaluation, Training, in_words, read_facts
from tinyllm.model_card.licences import hub_licence
from tinyllm.model_card.page import card
from tinyllm.model_card.publish import CARD, describe, write_card
from tinyllm.models.folder import load_model, save_model
from tinyllm.models.registry import ARCHITECTURES
from tinyllm.settings.load import load_params

SPLIT = {"documents": 3, "tokens": 5000, "bytes": 20_000, "vocab_size": 320, "sha256": "ab" * 32}
SCORES = {"bits_per_byte": 1.25, "loss": 2.5, "perplexity": 12.2, "accuracy": 0.5}
ROOT = Path(__file__).resolve().parents[2]


def training(**changes: Any) -> Training:
    settings = load_params(ROOT / "params.yaml").train.resolve().model_dump()
    known = Training(
        parameters=1_316_224, seed=1, settings=settings, precision="fp32", tokenizer="bpe-320",
        vocab_size=320, text={"source": "a folder of letters", "licence": "CC BY 4.0"},
        splits=dict.fromkeys(("train", "validation", "test"), SPLIT), steps=100, saved_step=80,
        validation=SCORES,
    )  # fmt: skip
    return replace(known, **changes)


def evaluation(**changes: Any) -> Evaluation:
    known = Evaluation(
        weights_sha256="cd" * 32, scores={**SCORES, "bits_per_byte": 1.375},
        baselines={"zlib": 2.5, "bigram": 1.75}, context=96, samples=[("Dear ", "~~~~\nreader")],
        sampling=", with temperature 0.8", pictures={"the loss": "../train/loss.png"},
    )  # fmt: skip
    return replace(known, **changes)


def test_the_hub_reads_the_front_matter() -> None:
    from huggingface_hub import ModelCard

    data: Any = ModelCard(card(training())).data
    assert (data.license, data.library_name) == ("cc-by-4.0", "transformers")
    assert data.pipeline_tag == "text-generation"
    assert data.eval_results is None


def test_the_hub_reads_the_test_scores() -> None:
    from huggingface_hub import ModelCard

    data: Any = ModelCard(card(training(), evaluation())).data
    results = data.eval_results
    assert {result.metric_type: result.metric_value for result in results} == {
        "bits_per_byte": 1.375, "perplexity": 12.2, "loss": 2.5, "accuracy": 0.5,
    }  # fmt: skip
    assert {result.dataset_split for result in results} == {"test"}
    assert {result.dataset_revision for result in results} == {"ab" * 32}


def test_a_source_with_the_signs_of_yaml_and_markdown_is_text() -> None:
    source = 'a: "b" #c, ../d - [e]'
    text = card(training(text={"source": source, "licence": None}), evaluation())
    front = yaml.safe_load(text.split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == f"test split of {source}"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("BSD-3-Clause", "bsd-3-clause"),
        ("CC BY-SA 3.0, GFDL", ["cc-by-sa-3.0", "gfdl"]),
        ("MIT License", "mit"),
        ("GPL-3.0-or-later", "gpl-3.0"),
        ("CDLA-Sharing-1.0", "cdla-sharing-1.0"),
        ("ODC-By 1.0", "odc-by"),
        (None, "unknown"),
    ],
)
def test_a_licence_has_the_hubs_identifier(stated: str | None, expected: object) -> None:
    assert hub_licence(stated) == {"license": expected}


@pytest.mark.parametrize("stated", ["public domain", "MIT, and my own", "see the file: COPYING"])
def test_another_licence_is_quoted(stated: str) -> None:
    assert hub_licence(stated) == {"license": "other", "license_name": stated}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_card_names_the_version_of_transformers(architecture: str) -> None:
    settings = training().settings | {"architecture": architecture}
    text = card(training(settings=settings))
    assert re.search(r"`transformers` \d\.\d+ or newer", text)
    assert ("llama-completion" in text) == (
        architecture != "nanochat"
    )  # llama.cpp does not know it


def test_test_scores_stand_beside_the_baselines_from_the_worst_to_the_best() -> None:
    text = card(training(), evaluation())
    rows = re.findall(r"^\| ([^` ]+) \| (\d\.\d{3}) \|$", text, re.MULTILINE)
    assert rows == [("zlib", "2.500"), ("bigram", "1.750"), ("**tinyllm-1.3M**", "1.375")]
    assert "1.375" not in card(training())


def test_a_sample_can_contain_the_sign_of_a_code_block() -> None:
    assert "~~~~~text\nDear ▶~~~~\nreader\n~~~~~\n" in card(training(), evaluation())


def test_numbers_in_words() -> None:
    assert [in_words(n) for n in (999, 1_316_224, 7 * 10**9)] == [
        "999",
        "1.32 million",
        "7 billion",
    ]
    assert in_words(124_439_808, short=True) == "124M"


# ----- in the folder, and in a copy of it


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    model = random_model(tiny_config(vocab_size=tokenizer.vocab_size))
    save_model(tmp_path / "model", model, tokenizer)
    describe(tmp_path / "model", training())
    return tmp_path / "model"


@pytest.fixture
def report(folder: Path) -> Path:
    """A complete card of the model, with pictures beside it and in another folder."""
    reports = folder.parent / "reports"
    for name in ("evaluate/comparison.png", "train/loss.png"):
        (reports / name).parent.mkdir(parents=True)
        (reports / name).write_bytes(name.encode())
    pictures = {"bars": "comparison.png", "the loss": "../train/loss.png", "none": "missing.png"}
    sha256 = sha256_of(folder / "model.safetensors")
    path = reports / "evaluate" / "model_card.md"
    path.write_text(card(training(), evaluation(weights_sha256=sha256, pictures=pictures)))
    return path


def test_the_facts_are_read_back_and_sealed(folder: Path) -> None:
    assert read_facts(folder) == training()
    assert checked(folder, CARD).read_text() == card(training())
    load_model(folder)


def test_the_same_facts_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    describe(other, training())
    for path in folder.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_a_copy_has_the_complete_card_and_its_pictures(folder: Path, report: Path) -> None:
    assert write_card(folder, report, "Commit `abc`.") is None
    text = checked(folder, CARD).read_text()
    assert "![bars](comparison.png)" in text and "![the loss](loss.png)" in text
    assert "missing.png" not in text
    assert checked(folder, "loss.png").read_bytes() == b"train/loss.png"
    assert checked(folder, "comparison.png").read_bytes() == b"evaluate/comparison.png"
    assert text.endswith("## Origin\n\nCommit `abc`.\n")
    load_model(folder)


def test_a_card_of_other_weights_is_not_used(folder: Path, report: Path) -> None:
    report.write_text(card(training(), evaluation(weights_sha256="0" * 64)))
    assert "describes other weights" in (write_card(folder, report) or "")
    assert (folder / CARD).read_text() == card(training())


def test_a_model_that_was_not_evaluated_keeps_its_card(folder: Path) -> None:
    assert "not been evaluated" in (write_card(folder, None, "Commit `abc`.") or "")
    assert (folder / CARD).read_text() == f"{card(training())}\n## Origin\n\nCommit `abc`.\n"
