"""What `train.init_from` may be, and that the other settings describe that model."""

from pathlib import Path

import pytest
import tiktoken

from tests.helpers import ROOT, make_documents, random_model, tiny_config
from tests.training.project import change
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.folder import save_model
from tinyllm.settings.load import load_params

SAME = {"n_layer": "3", "n_head": "4", "n_kv_head": "2", "d_model": "32", "vocab_size": "300"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, and a model in `base` whose shape is SAME."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    save_base(tmp_path, Tokenizer.train(make_documents(100, seed=1), 300))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_base(project: Path, tokenizer: Tokenizer) -> None:
    shape = {"n_layer": 3, "n_head": 4, "n_kv_head": 2, "d_model": 32}
    config = tiny_config(vocab_size=tokenizer.vocab_size, **shape)
    save_model(project / "base", random_model(config), tokenizer)


def problems(project: Path) -> list[str]:
    """The lines of the error about wrong settings; none if there is no error."""
    try:
        load_params(project / "params.yaml")
    except ValueError as error:
        return str(error).splitlines()[1:]
    return []


def test_every_setting_unlike_the_model_is_reported_with_its_value(project: Path) -> None:
    change(project, {"init_from": "base", "architecture": "llama", "tie_embeddings": "true"})
    assert problems(project) == [
        "train.architecture = 'llama': must be 'qwen3', as in the model base",
        "train.n_layer = 4: must be 3, as in the model base",
        "train.n_kv_head = null: must be 2, as in the model base",
        "train.d_model = 128: must be 32, as in the model base",
        "train.tie_embeddings = true: must be false, as in the model base",
        "tokenize.vocab_size = 4096: must be 300, as in the model base",
    ]
    change(project, SAME | {"architecture": "qwen3", "tie_embeddings": "false"})
    assert problems(project) == []


def test_what_has_no_weights_may_differ(project: Path) -> None:
    changes = {"context_length": "999", "dropout": "0.5", "document_mask": "true"}
    change(project, SAME | {"init_from": "base"} | changes)
    assert problems(project) == []


def test_other_wrong_settings_are_reported_too(project: Path) -> None:
    change(project, SAME | {"init_from": "base", "n_layer": "0", "d_model": "64"})
    assert [line.split(" = ")[0] for line in problems(project)] == [
        "train.n_layer",
        "train.d_model",
    ]


def test_a_published_encoding_must_be_named(project: Path) -> None:
    ranks = {bytes([i]): i for i in range(256)}
    encoding = tiktoken.Encoding(
        "gpt2", pat_str=r".", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 256}
    )
    save_base(project, Tokenizer(encoding))
    change(project, SAME | {"init_from": "base"})
    assert problems(project) == ["tokenize.encoding = 'bpe': must be 'gpt2', as in the model base"]
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("  encoding: bpe ", "  encoding: gpt2 "))
    assert problems(project) == []


@pytest.mark.parametrize(
    "address", ["models:/tinyllm@champion", "runs:/0123", "s3://bucket/model", "https://host/a b"]
)
def test_an_address_is_to_be_fetched_first(project: Path, address: str) -> None:
    change(project, {"init_from": f"'{address}'"})
    (line,) = problems(project)
    quoted = f"'{address}'" if " " in address else address
    assert line == (
        f"train.init_from = '{address}': must be a folder; copy the model first with "
        f"`tinyllm fetch {quoted} models/base`, then set it to models/base"
    )


@pytest.mark.parametrize("value", ["missing", "./scratch", "params.yaml"])
def test_anything_but_a_model_is_an_error(project: Path, value: str) -> None:
    (project / "scratch").touch()
    change(project, {"init_from": value})
    (line,) = problems(project)
    assert line.startswith(f"train.init_from = '{value}': must be scratch or a model's folder: ")
