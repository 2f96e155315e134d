"""Tokens on disk are read back, and a flipped bit is found."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import flip_bit
from tinyllm.common.files import read_json, sha256_of
from tinyllm.data import token_store
from tinyllm.data.split_rule import SPLITS, TEST, TRAIN, VALIDATION
from tinyllm.data.token_store import (
    DOCUMENT,
    Documents,
    Tokens,
    TokenWriter,
    read_split,
    write_splits,
)  # fmt: skip

Document = tuple[Tokens, int, str]


def make_documents(count: int = 120) -> list[Document]:
    """Make documents of random length; each split has a thousand ids of its own."""
    chance = np.random.default_rng(1)
    documents = []
    for _ in range(count):
        split = int(chance.integers(3))
        ids = chance.integers(1000 * split, 1000 * (split + 1), chance.integers(1, 30))
        documents.append((ids.astype(np.uint16), int(chance.integers(1, 99)), SPLITS[split]))
    return documents


def write_tokens(folder: Path, documents: list[Document]) -> Path:
    folder.mkdir(parents=True)
    with TokenWriter(folder, 3000, np.uint16, len(documents)) as writer:
        for ids, size, split in documents:
            writer.add(ids, record(len(ids), size, split))
    return folder


def record(tokens: int, size: int, split: str) -> Documents:
    """Make the index entry of one document."""
    return np.array([(SPLITS.index(split), tokens, size)], dtype=DOCUMENT)


NONE = np.empty(0, dtype=DOCUMENT)


def make_folders(root: Path) -> dict[str, Path]:
    folders = {split: root / split for split in SPLITS}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return folders


@pytest.mark.parametrize("shard_tokens", [1, 100, 1 << 24])
def test_each_split_gets_its_documents_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_tokens: int
) -> None:
    monkeypatch.setattr(token_store, "SHARD_TOKENS", shard_tokens)
    documents = make_documents()
    tokens = write_tokens(tmp_path / "tokens", documents)
    folders = make_folders(tmp_path)
    summaries = write_splits(tokens, folders)
    for split in SPLITS:
        mine = [document for document in documents if document[2] == split]
        held = read_split(folders[split])
        assert np.array_equal(held.tokens, np.concatenate([ids for ids, _, _ in mine]))
        assert held.summary == summaries[split]
        assert held.summary.documents == len(mine)
        assert held.summary.tokens == len(held.tokens)
        assert held.summary.bytes == sum(size for _, size, _ in mine)
        assert held.summary.vocab_size == 3000


def test_large_corpora_are_kept_in_shards_of_whole_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_store, "SHARD_TOKENS", 100)
    documents = make_documents()
    tokens = write_tokens(tmp_path / "tokens", documents)
    index = read_json(tokens / "index.json")
    names = sorted(path.name for path in tokens.glob("tokens-*.npy"))
    assert len(names) > 5 and [shard["name"] for shard in index["shards"]] == names
    shards = [np.load(tokens / name) for name in names]
    assert np.array_equal(np.concatenate(shards), np.concatenate([ids for ids, _, _ in documents]))
    assert all(100 <= len(shard) < 100 + 30 for shard in shards[:-1])
    assert index["documents"] == sum(shard["documents"] for shard in index["shards"]) == 120
    assert index["tokens"] == sum(map(len, shards))
    assert index["bytes"] == sum(size for _, size, _ in documents)
    assert index["bytes"] == sum(shard["bytes"] for shard in index["shards"])
    assert [shard["sha256"] for shard in index["shards"]] == [sha256_of(tokens / n) for n in names]


def test_numpy_alone_reads_the_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_store, "SHARD_TOKENS", 100)
    documents = make_documents()
    folder = write_tokens(tmp_path / "tokens", documents)
    # The code in the docstring of tinyllm/data/token_store.py.
    shards = [np.load(path) for path in sorted(folder.glob("tokens-*.npy"))]
    sizes = np.load(folder / "documents.npy")["tokens"]
    found = np.split(np.concatenate(shards), sizes.cumsum()[:-1])
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids, _, _ in documents]


@pytest.mark.parametrize("at_once", [1, 2, 1 << 16])
def test_a_document_larger_than_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(token_store, "SHARD_TOKENS", 100)
    monkeypatch.setattr(token_store, "AT_ONCE", at_once)
    ids = np.arange(2000, dtype=np.uint16)
    (tmp_path / "tokens").mkdir()
    with TokenWriter(tmp_path / "tokens", 3000, np.uint16, 4) as writer:
        writer.add(ids[:5], record(5, 9, TEST))
        for first in range(5, 1005, 40):
            writer.add(ids[first : first + 40], NONE)
        writer.add(ids[1005:1010], record(1005, 2000, TRAIN))
        writer.add(ids[1010:], np.concatenate([record(500, 7, VALIDATION), record(490, 8, TEST)]))
    assert len(list((tmp_path / "tokens").glob("tokens-*"))) > 5
    folders = make_folders(tmp_path)
    write_splits(tmp_path / "tokens", folders)
    assert read_split(folders[TRAIN]).tokens.tolist() == [*range(5, 1010)]
    assert read_split(folders[VALIDATION]).tokens.tolist() == [*range(1010, 1510)]
    assert read_split(folders[TEST]).tokens.tolist() == [*range(5), *range(1510, 2000)]


def test_the_size_of_shards_changes_no_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for shard_tokens in (50, 1 << 24):
        monkeypatch.setattr(token_store, "SHARD_TOKENS", shard_tokens)
        root = tmp_path / str(shard_tokens)
        folders = make_folders(root)
        write_splits(write_tokens(root / "tokens", make_documents()), folders)
        files = [path for split in SPLITS for path in sorted(folders[split].iterdir())]
        digests.append([sha256_of(path) for path in files])
    assert digests[0] == digests[1]


def test_test_tokens_are_in_the_test_split_only(tmp_path: Path) -> None:
    folders = make_folders(tmp_path)
    write_splits(write_tokens(tmp_path / "tokens", make_documents()), folders)
    for code, split in enumerate(SPLITS):
        assert np.unique(read_split(folders[split]).tokens // 1000).tolist() == [code]


def test_large_vocabularies_keep_their_ids(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    ids = np.array([0, 65535, 65536, 199_999], dtype=np.uint32)
    with TokenWriter(tmp_path / "tokens", 200_000, np.uint32, len(SPLITS)) as writer:
        for split in SPLITS:
            writer.add(ids, record(4, 4, split))
    folders = make_folders(tmp_path)
    write_splits(tmp_path / "tokens", folders)
    assert read_split(folders[TRAIN]).tokens.tolist() == ids.tolist()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a token folder of several shards, and its splits."""
    root = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_store, "SHARD_TOKENS", 500)
        tokens = write_tokens(root / "tokens", make_documents())
    write_splits(tokens, make_folders(root))
    return root


@pytest.mark.parametrize("name", ["tokens-00000.npy", "tokens-00002.npy", "documents.npy"])
def test_a_bit_flipped_in_the_token_folder_is_found(tmp_path: Path, good: Path, name: str) -> None:
    size = (good / "tokens" / name).stat().st_size
    positions = [0, 128, size - 1, *random.Random(1).choices(range(size), k=12)]
    for i, position in enumerate(positions):
        tokens = Path(shutil.copytree(good / "tokens", tmp_path / f"tokens{i}"))
        flip_bit(tokens / name, position)
        with pytest.raises(ValueError, match=f"{name} is corrupt"):
            write_splits(tokens, make_folders(tmp_path / str(i)))


@pytest.mark.parametrize("name", ["tokens-00001.npy", "documents.npy", "index.json"])
def test_a_file_missing_from_the_token_folder_is_named(
    tmp_path: Path, good: Path, name: str
) -> None:
    tokens = Path(shutil.copytree(good / "tokens", tmp_path / "tokens"))
    (tokens / name).unlink()
    with pytest.raises(ValueError, match=name):
        write_splits(tokens, make_folders(tmp_path / "splits"))


@pytest.mark.parametrize("split", [TRAIN, VALIDATION, TEST])
def test_a_corrupt_split_is_found(tmp_path: Path, good: Path, split: str) -> None:
    path = good / split / "tokens.npy"
    size = path.stat().st_size
    for i, position in enumerate([0, 128, size - 1, *random.Random(1).choices(range(size), k=12)]):
        bad = Path(shutil.copytree(good / split, tmp_path / str(i)))
        flip_bit(bad / "tokens.npy", position)
        with pytest.raises(ValueError, match=r"tokens\.npy is corrupt"):
            read_split(bad)
    (bad / "tokens.npy").write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"tokens\.npy is corrupt"):
        read_split(bad)
    for name in ("tokens.npy", "split.json"):
        (bad / name).unlink()
        with pytest.raises(ValueError, match=name):
            read_split(bad)


def test_a_writer_that_failed_leaves_no_index(tmp_path: Path) -> None:
    with pytest.raises(KeyError), TokenWriter(tmp_path, 3000, np.uint16, 1) as writer:
        ids, size, split = make_documents()[0]
        writer.add(ids, record(len(ids), size, split))
        raise KeyError
    assert not (tmp_path / "index.json").exists()
