"""Training opens and checks its data before any work."""

from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT, corpus_of, encode, flip_bit, make_documents, train_settings
from tinyllm.data.split_rule import SPLITS
from tinyllm.data.splits_summary import read_summary, write_summary
from tinyllm.data.token_store import write_splits
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.config import IGNORE
from tinyllm.settings.load import Params, load_params
from tinyllm.training.data import TrainingData, load_data
from tinyllm.training.distributed.processes import ALONE, Processes, SingleProcess


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """The outputs of the stages before training."""
    folders = {split: tmp_path / split for split in SPLITS}
    for made in folders.values():
        made.mkdir()
    encode(corpus_of(make_documents(300, seed=1)), tokenizer, tmp_path)
    summaries = write_splits(tmp_path / "tokens", folders)
    write_summary(tmp_path / "splits.json", tmp_path / "tokens", summaries)
    return tmp_path


def params(**train: object) -> Params:
    loaded = load_params(ROOT / "params.yaml")
    runtime = loaded.runtime.model_copy(update={"num_workers": 0})
    return loaded.model_copy(update={"train": train_settings(**train), "runtime": runtime})


def load(folder: Path, settings: Params, processes: Processes = ALONE) -> TrainingData:
    return load_data(
        settings,
        tokenizer=folder / "tokenizer",
        train=folder / "train",
        validation=folder / "validation",
        summary=folder / "splits.json",
        processes=processes,
    )


def test_the_model_and_the_batches_depend_on_settings_and_tokens(folder: Path) -> None:
    settings = params(max_steps=5, dropout=0.1)
    data = load(folder, settings)
    assert data.model_config.vocab_size == data.tokenizer.vocab_size == 320
    assert data.model_config.context_length == 16
    assert (data.model_config.n_layer, data.model_config.n_head) == (2, 2)
    assert (data.model_config.d_model, data.model_config.dropout) == (32, 0.1)
    batches = list(data.batches(2, settings))
    assert [inputs.shape for inputs, _ in batches] == [torch.Size([8, 16])] * 3
    assert torch.equal(batches[0][0], data.training[2][0])


def test_all_tokens_of_both_splits_or_eval_tokens_are_scored(folder: Path) -> None:
    data = load(folder, params(eval_tokens=None))
    for name, windows in data.evaluation.items():
        summary = data.splits[name].summary
        assert int((windows.targets != IGNORE).sum()) == summary.tokens
        assert windows.n_bytes == summary.bytes
    data = load(folder, params(eval_tokens=100))
    for windows in data.evaluation.values():
        assert 60 < int((windows.targets != IGNORE).sum()) <= 100


def test_the_test_split_is_not_read(folder: Path) -> None:
    before = load(folder, params())
    for path in (folder / "test").iterdir():
        path.unlink()
    after = load(folder, params())
    for name, windows in after.evaluation.items():
        assert torch.equal(windows.targets, before.evaluation[name].targets)


def test_a_split_shorter_than_the_context_is_an_error(folder: Path) -> None:
    splits = read_summary(folder / "splits.json").splits
    shortest, name = min((held.tokens, split) for split, held in splits.items())
    message = rf"^train\.context_length = \d+: .* size of the {name} split, {shortest} tokens"
    with pytest.raises(ValueError, match=message):
        load(folder, params(context_length=shortest))
    load(folder, params(context_length=shortest - 1))


@pytest.mark.parametrize(
    "name", ["train/tokens.npy", "validation/tokens.npy", "tokenizer/vocabulary.tiktoken"]
)
def test_a_corrupt_file_is_an_error(folder: Path, name: str) -> None:
    flip_bit(folder / name, -5)
    with pytest.raises(ValueError, match="is corrupt"):
        load(folder, params())


@pytest.mark.parametrize("name", ["train/split.json", "tokenizer/encoding.json", "splits.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{Path(name).name} is missing"):
        load(folder, params())


class Three(SingleProcess):
    """One of the processes that `hardware.processes: null` starts on a machine with three GPUs."""

    size = 3


def test_a_batch_that_processes_cannot_share_evenly_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size = 8: must be a multiple of the 3 processes"):
        load(folder, params(), Three())
    assert len(load(folder, params(batch_size=9), Three()).training[0][0]) == 3
