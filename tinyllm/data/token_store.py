"""Store token ids on disk: plain .npy files with an index, readable with nothing but numpy.

A token folder, in the order of the documents:
    tokens-00000.npy, ...   ids (N,), uint16, or uint32 if the vocabulary requires it
    documents.npy           one record per document: its split, tokens and bytes
    index.json              totals of all documents, each split and each shard, with its SHA-256,
                            and the source and licence of the text

    shards = [np.load(path) for path in sorted(folder.glob("tokens-*.npy"))]
    sizes = np.load(folder / "documents.npy")["tokens"]
    documents = np.split(np.concatenate(shards), sizes.cumsum()[:-1])

A split folder:
    tokens.npy              ids (N,) of all its documents, concatenated
    split.json              documents, tokens, bytes, vocabulary size, SHA-256 of the ids

Both are sealed (`tinyllm.common.files`).
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyllm.common.errors import RunAgain
from tinyllm.common.files import checked, read_json, seal, write_json
from tinyllm.data.split_rule import SPLITS

Tokens = npt.NDArray[np.unsignedinteger]
Documents = npt.NDArray[Any]  # (N,) records of DOCUMENT

SHARD_TOKENS = 1 << 24  # the text that reaches this many tokens is the last of its shard
AT_ONCE = 1 << 16  # documents sorted at a time
TOKENS_AT_ONCE = 1 << 20  # sorted or counted at a time, in 8 bytes each
DOCUMENT = np.dtype([("split", "u1"), ("tokens", "<i8"), ("bytes", "<i8")])
INDEX, DOCUMENTS, TOKENS, SUMMARY = "index.json", "documents.npy", "tokens.npy", "split.json"


class ArrayFile:
    """A .npy file of `count` elements that is written in parts and hashed on the way."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, count: int) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.left = count
        self._digest = hashlib.sha256()
        self._file = path.open("wb")
        descr = np.lib.format.dtype_to_descr(self.dtype)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": descr, "fortran_order": False, "shape": (count,)}
        )
        self._write(header.getvalue())

    def append(self, array: npt.NDArray[Any]) -> None:
        """Write the next elements."""
        self.left -= len(array)
        self._write(np.ascontiguousarray(array, self.dtype).view(np.uint8).data)

    def _write(self, content: bytes | memoryview) -> None:
        self._digest.update(content)
        self._file.write(content)

    def sha256(self) -> str:
        """Return the SHA-256 of the file after all elements are written."""
        assert self.left == 0, f"{self.path}: {self.left} elements are missing"
        return self._digest.hexdigest()

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclass
class TokenTotals:
    """Totals of what was written.

    Attributes:
        of_split: Split to its "documents", "tokens" and "bytes".
        of_token: Count of each id in the shards (V,).
        of_length: Number of documents of each length in tokens.
    """

    of_token: npt.NDArray[np.int64]
    of_split: dict[str, Counter[str]] = field(
        default_factory=lambda: {split: Counter(documents=0, tokens=0, bytes=0) for split in SPLITS}
    )
    of_length: Counter[int] = field(default_factory=Counter)

    def add(self, documents: Documents) -> None:
        """Count some documents."""
        self.of_length.update(documents["tokens"].tolist())
        for code, split in enumerate(SPLITS):
            mine = documents[documents["split"] == code]
            sums = {name: int(mine[name].sum()) for name in ("tokens", "bytes")}
            self.of_split[split].update(documents=len(mine), **sums)

    def all(self) -> Counter[str]:
        """Return the "documents", "tokens" and "bytes" of all splits together."""
        return sum(self.of_split.values(), Counter())


@dataclass(frozen=True)
class TextSource:
    """Where a corpus' text comes from, and its licence; None if not stated."""

    source: str
    licence: str | None


class TokenWriter:
    """Write a token folder; memory holds one shard at most.

    Use it as a context manager: leaving it without an error closes the last shard and writes the
    index.

    Args:
        documents: Number of documents to come.
        text: Where they come from; None: not recorded.
    """

    def __init__(
        self, folder: Path, vocab_size: int, dtype: type[np.unsignedinteger], documents: int,
        text: TextSource | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.text = text
        self.dtype = np.dtype(dtype)
        self.totals = TokenTotals(np.zeros(vocab_size, dtype=np.int64))
        self._documents = ArrayFile(folder / DOCUMENTS, DOCUMENT, documents)
        self._pending: list[Tokens] = []
        self._in_shard = Counter[str]()
        self._shards: list[dict[str, object]] = []
        self._known: dict[str, str] = {}  # file name to SHA-256

    def add(self, ids: Tokens, documents: Documents) -> None:
        """Append ids (N,), and the records (D,) of the documents that end in them."""
        self._pending.append(ids)
        self._documents.append(documents)
        self.totals.add(documents)
        sizes = {"documents": len(documents), "bytes": int(documents["bytes"].sum())}
        self._in_shard.update(tokens=len(ids), **sizes)
        if self._in_shard["tokens"] >= SHARD_TOKENS:
            self._close_shard()

    def _close_shard(self) -> None:
        path = self.folder / f"tokens-{len(self._shards):05d}.npy"
        ids = np.concatenate(self._pending)
        with ArrayFile(path, self.dtype, len(ids)) as file:
            file.append(ids)
        self._known[path.name] = file.sha256()
        for first in range(0, len(ids), TOKENS_AT_ONCE):
            some = ids[first : first + TOKENS_AT_ONCE]
            self.totals.of_token += np.bincount(some, minlength=len(self.totals.of_token))
        held = {name: self._in_shard[name] for name in ("documents", "tokens", "bytes")}
        self._shards.append({"name": path.name, **held, "sha256": file.sha256()})
        self._pending, self._in_shard = [], Counter()

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._documents:
            if error is not None:
                return
        if self._pending:
            self._close_shard()
        self._known[DOCUMENTS] = self._documents.sha256()
        write_json(
            self.folder / INDEX,
            {
                "text": None if self.text is None else asdict(self.text),
                **self.totals.all(),
                "vocab_size": len(self.totals.of_token),
                "dtype": self.dtype.name,
                "splits": self.totals.of_split,
                "shards": self._shards,
            },
        )
        seal(self.folder, self._known)


@dataclass(frozen=True)
class SplitSummary:
    """The size of a split: documents, tokens, bytes of text; ids are below `vocab_size`.

    `sha256` is that of tokens.npy; runs identify their data by it.
    """

    documents: int
    tokens: int
    bytes: int
    vocab_size: int
    sha256: str


def read_text_source(tokens_folder: Path) -> TextSource | None:
    """Return where the text of a token folder comes from; None if not recorded."""
    text = read_json(checked(tokens_folder, INDEX))["text"]
    return None if text is None else TextSource(**text)


class _SplitOfTokens:
    """The split of each token in turn, from the index of documents."""

    def __init__(self, index: Path) -> None:
        self._blocks = _read_documents(index)
        self._codes = np.empty(0, dtype=np.uint8)
        self._sizes = np.empty(0, dtype=np.int64)  # remaining tokens of each document

    def take(self, count: int) -> npt.NDArray[np.uint8]:
        """Return indices into SPLITS of the next `count` tokens (count,)."""
        parts = []
        while count:
            if not len(self._sizes):
                block = next(self._blocks, None)
                if block is None:
                    raise ValueError("the index has fewer tokens than the shards")
                self._codes, self._sizes = block["split"], block["tokens"].copy()
            whole = int(np.searchsorted(self._sizes.cumsum(), count, side="right"))
            parts.append(np.repeat(self._codes[:whole], self._sizes[:whole]))
            count -= len(parts[-1])
            self._codes, self._sizes = self._codes[whole:], self._sizes[whole:]
            if len(self._sizes):  # the rest is a part of the next document
                parts.append(np.full(count, self._codes[0]))
                self._sizes[0] -= count
                count = 0
        return np.concatenate(parts)


def _read_documents(path: Path) -> Iterator[Documents]:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while len(documents := np.fromfile(file, dtype=DOCUMENT, count=AT_ONCE)):
            yield documents


def write_splits(tokens_folder: Path, folders: dict[str, Path]) -> dict[str, SplitSummary]:
    """Sort the documents of a token folder into one folder per split; memory holds one shard.

    Args:
        folders: Split name to an existing empty folder.

    Raises:
        ValueError: A file is missing or corrupt.
    """
    index = read_json(checked(tokens_folder, INDEX))
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(
                ArrayFile(folder / TOKENS, index["dtype"], index["splits"][split]["tokens"])
            )
            for split, folder in folders.items()
        }
        try:
            _sort(tokens_folder, index, files)
        except ValueError as error:
            raise RunAgain(f"{tokens_folder} is corrupt: {error}") from None
    summaries = {}
    for split, folder in folders.items():
        sha256 = files[split].sha256()
        summaries[split] = SplitSummary(
            **index["splits"][split], vocab_size=index["vocab_size"], sha256=sha256
        )
        write_json(folder / SUMMARY, asdict(summaries[split]))
        seal(folder, {TOKENS: sha256})
    return summaries


def _sort(tokens_folder: Path, index: dict[str, Any], files: dict[str, "ArrayFile"]) -> None:
    each = _SplitOfTokens(checked(tokens_folder, DOCUMENTS))
    for shard in index["shards"]:
        ids = _load(tokens_folder, shard["name"])
        for first in range(0, len(ids), TOKENS_AT_ONCE):
            some = ids[first : first + TOKENS_AT_ONCE]
            codes = each.take(len(some))
            for split, file in files.items():
                file.append(some[codes == SPLITS.index(split)])
    for split, file in files.items():
        if file.left:
            raise ValueError(f"{file.left} tokens of the {split} split are missing")


@dataclass(frozen=True)
class TokenSplit:
    """A split: its folder, its memory-mapped ids (N,) and its summary."""

    path: Path
    tokens: Tokens
    summary: SplitSummary


def read_split(folder: Path) -> TokenSplit:
    """Open a split folder and verify it.

    Raises:
        ValueError: The folder is missing or corrupt.
    """
    summary = SplitSummary(**read_json(checked(folder, SUMMARY)))
    return TokenSplit(folder, _load(folder, TOKENS), summary)


def _load(folder: Path, name: str) -> npt.NDArray[Any]:
    """Memory-map an array of a sealed folder; unlike np.load it accepts no format but .npy."""
    return np.lib.format.open_memmap(checked(folder, name), mode="r")


def document_lengths(tokens: Tokens, end_of_text: int) -> npt.NDArray[np.int64]:
    """Tokens of each document (D,); each ends with the token `end_of_text`."""
    ends = np.flatnonzero(tokens == end_of_text) + 1
    if not len(ends) or ends[-1] != len(tokens):  # a document that was cut
        ends = np.append(ends, len(tokens))
    return np.diff(ends, prepend=0)
