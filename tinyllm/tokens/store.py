"""Token ids on disk: plain .npy files with an index, readable with nothing but numpy.

A token folder, in the documents' order:
    tokens-00000.npy, ...   ids (N,), uint16, or uint32 where the vocabulary needs it
    documents.npy           a record a document: its split, tokens and bytes
    index.json              totals, each shard's documents and tokens

A split folder:
    tokens.npy              ids (N,) of all its documents, one after the other
    split.json              documents, tokens, bytes, vocabulary size, SHA-256 of the ids

Both are sealed (`tinyllm.common.files`).
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyllm.common.files import checked, read_json, seal, sha256_of, write_json
from tinyllm.tokens.split import SPLITS

Tokens = npt.NDArray[np.unsignedinteger]

SHARD_TOKENS = 1 << 24  # a shard is closed by the document that reaches this many tokens
DOCUMENT = np.dtype([("split", "u1"), ("tokens", "<i8"), ("bytes", "<i8")])
INDEX, DOCUMENTS, TOKENS, SUMMARY = "index.json", "documents.npy", "tokens.npy", "split.json"


class TokenWriter:
    """Writes a token folder, document by document; holds no more than one shard in memory.

    Used as a context: leaving it without an error closes the last shard and writes the index.
    """

    def __init__(self, folder: Path, vocab_size: int, dtype: type[np.unsignedinteger]) -> None:
        self.folder = folder
        self.vocab_size = vocab_size
        self.dtype = np.dtype(dtype)
        self._pending: list[Tokens] = []
        self._pending_tokens = 0
        self._documents: list[tuple[int, int, int]] = []
        self._shards: list[dict[str, object]] = []
        self._closed_documents = 0

    def add(self, tokens: Tokens, n_bytes: int, split: str) -> None:
        """Append one document: its ids (N,), the bytes of its text, its split."""
        self._pending.append(tokens.astype(self.dtype, copy=False))
        self._pending_tokens += len(tokens)
        self._documents.append((SPLITS.index(split), len(tokens), n_bytes))
        if self._pending_tokens >= SHARD_TOKENS:
            self._close_shard()

    def _close_shard(self) -> None:
        path = self.folder / f"tokens-{len(self._shards):05d}.npy"
        np.save(path, np.concatenate(self._pending))
        self._shards.append(
            {
                "name": path.name,
                "documents": len(self._documents) - self._closed_documents,
                "tokens": self._pending_tokens,
            }
        )
        self._closed_documents = len(self._documents)
        self._pending, self._pending_tokens = [], 0

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        if self._pending:
            self._close_shard()
        documents = np.array(self._documents, dtype=DOCUMENT)
        np.save(self.folder / DOCUMENTS, documents)
        write_json(
            self.folder / INDEX,
            {
                "documents": len(documents),
                "tokens": int(documents["tokens"].sum()),
                "bytes": int(documents["bytes"].sum()),
                "vocab_size": self.vocab_size,
                "dtype": self.dtype.name,
                "splits": list(SPLITS),
                "shards": self._shards,
            },
        )
        seal(self.folder)


@dataclass(frozen=True)
class SplitSummary:
    """What a split holds: documents, tokens, bytes of text; ids are below `vocab_size`.

    The SHA-256 is that of tokens.npy: runs name their data by it.
    """

    documents: int
    tokens: int
    bytes: int
    vocab_size: int
    sha256: str


def write_splits(tokens_folder: Path, folders: dict[str, Path]) -> dict[str, SplitSummary]:
    """Sort a token folder's documents into a folder a split; holds one shard in memory.

    Args:
        folders: split name to an existing empty folder.

    Raises:
        ValueError: a file is missing or damaged.
    """
    index = read_json(checked(tokens_folder, INDEX))
    documents = _load(tokens_folder, DOCUMENTS)
    totals = {
        split: documents[documents["split"] == code]["tokens"].sum()
        for code, split in enumerate(SPLITS)
    }
    arrays = {
        split: np.lib.format.open_memmap(
            folder / TOKENS, mode="w+", dtype=np.dtype(index["dtype"]), shape=(int(totals[split]),)
        )
        for split, folder in folders.items()
    }
    filled = dict.fromkeys(folders, 0)
    first = 0
    for shard in index["shards"]:
        ids = _load(tokens_folder, shard["name"])
        held = documents[first : first + shard["documents"]]
        first += shard["documents"]
        codes = np.repeat(held["split"], held["tokens"])
        for split in folders:
            chosen = ids[codes == SPLITS.index(split)]
            arrays[split][filled[split] : filled[split] + len(chosen)] = chosen
            filled[split] += len(chosen)
    summaries = {}
    for split, folder in folders.items():
        arrays[split].flush()
        mine = documents[documents["split"] == SPLITS.index(split)]
        summaries[split] = SplitSummary(
            documents=len(mine),
            tokens=int(mine["tokens"].sum()),
            bytes=int(mine["bytes"].sum()),
            vocab_size=index["vocab_size"],
            sha256=sha256_of(folder / TOKENS),
        )
        write_json(folder / SUMMARY, asdict(summaries[split]))
        seal(folder)
    return summaries


@dataclass(frozen=True)
class TokenSplit:
    """A split, read back: its folder, its ids (N,), memory-mapped, and its summary."""

    path: Path
    tokens: Tokens
    summary: SplitSummary


def read_split(folder: Path) -> TokenSplit:
    """Open a split folder, checked.

    Raises:
        ValueError: it is missing or damaged.
    """
    summary = SplitSummary(**read_json(checked(folder, SUMMARY)))
    return TokenSplit(folder, _load(folder, TOKENS), summary)


def _load(folder: Path, name: str) -> npt.NDArray[Any]:
    """An array of a sealed folder, memory-mapped; unlike np.load it knows no format but .npy."""
    return np.lib.format.open_memmap(checked(folder, name), mode="r")
