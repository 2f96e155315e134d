"""Checks of a model folder: that it is one of tinyllm's, and that its files agree.

A folder that a stage wrote has checksums, so that a flipped bit is found before these checks. They
find folders of another program, and folders that somebody changed. Each error is one line that
names the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tinyllm.common.errors import RunAgain
from tinyllm.common.files import CHECKSUMS
from tinyllm.data.tokenizer import RANKS, Tokenizer
from tinyllm.models.config import ModelConfig

CONFIG, WEIGHTS = "config.json", "model.safetensors"
ADAPTER = "adapter_config.json"
SHARDS = f"{WEIGHTS}.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LARGEST_SIZE = 1 << 24  # of a vocabulary, width or context: a matrix with both fits an index
POINTER = b"version https://git-lfs"  # the beginning of what Git LFS stores in Git
# The beginnings of torch's archives and of pickles, which may run code when they are loaded.
PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
ONLY_OURS = "tinyllm reads only model folders that it wrote"


def check_folder(folder: Path) -> None:
    """Check that a folder holds a whole model that tinyllm wrote; opens no file but the weights.

    Raises:
        ValueError: it does not.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file, not a model folder; {ONLY_OURS}")
    if not folder.is_dir():
        raise RunAgain(f"{folder} is missing")
    if (folder / ADAPTER).exists():
        raise ValueError(
            f"{folder / ADAPTER}: this is an adapter (PEFT) for another model, not a whole model; "
            + ONLY_OURS
        )
    if not (folder / WEIGHTS).exists():
        _explain_missing_weights(folder)
    with (folder / WEIGHTS).open("rb") as file:
        begin = file.read(len(POINTER))
    if begin == POINTER:
        raise ValueError(
            f"{folder / WEIGHTS} is a Git LFS pointer in place of the weights; `git lfs pull` "
            "downloads them"
        )
    if begin.startswith(PICKLED):
        raise ValueError(
            f"{folder / WEIGHTS} is a pickle under another name; it was not opened, because a "
            "pickle can run code"
        )
    if not (folder / CHECKSUMS).exists():
        raise ValueError(f"{folder / CHECKSUMS} is missing; {ONLY_OURS}")


def _explain_missing_weights(folder: Path) -> None:
    if (folder / SHARDS).exists():
        raise ValueError(
            f"{folder / SHARDS}: the weights are split into several files; {ONLY_OURS}, with one "
            + WEIGHTS
        )
    pickles = sorted(path for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ValueError(
            f"{pickles[0]} is a pickle; it was not opened, because a pickle can run code; "
            f"tinyllm reads weights from {WEIGHTS} only"
        )
    raise RunAgain(f"{folder / WEIGHTS} is missing")


def check_shape(path: Path, config: ModelConfig) -> None:
    """Check that a network of this shape exists.

    Raises:
        ValueError: a size is not a whole number from 1, or the heads don't divide the width.
    """
    sizes = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "max_position_embeddings": config.context_length,
    }
    for name, size in sizes.items():
        if type(size) is not int or not 1 <= size <= LARGEST_SIZE:
            raise ValueError(
                f"{path}: {name} is {size!r}, must be a whole number from 1 to {LARGEST_SIZE:,}"
            )
    if config.d_model % (2 * config.n_head):
        raise ValueError(
            f"{path}: hidden_size {config.d_model} must be a multiple of 2 * num_attention_heads "
            f"({config.n_head})"
        )
    if config.n_head % config.n_kv_head:
        raise ValueError(
            f"{path}: num_key_value_heads {config.n_kv_head} must divide num_attention_heads "
            f"{config.n_head}"
        )
    if type(config.tie_embeddings) is not bool:
        raise ValueError(
            f"{path}: tie_word_embeddings is {config.tie_embeddings!r}, must be true or false"
        )
    dropout = config.dropout
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise ValueError(f"{path}: attention_dropout is {dropout!r}, must be from 0 to below 1")


def check_same(path: Path, values: Mapping[str, Any], supported: Mapping[str, Any]) -> None:
    """Check that a configuration has the values with which tinyllm computes the network.

    Raises:
        ValueError: a value is missing or another one.
    """
    for name, value in supported.items():
        if name not in values:
            raise ValueError(f"{path}: {name} is missing")
        if values[name] != value:
            raise ValueError(
                f"{path}: {name} is {values[name]!r}, but tinyllm's network has {value!r}"
            )


def header_of(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor in a safetensors file, without reading the tensors.

    Raises:
        ValueError: the file is not safetensors, too short or too long.
    """
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is corrupt: {error}") from None


def check_tensors(
    path: Path,
    found: Mapping[str, tuple[str, tuple[int, ...]]],
    expected: Mapping[str, tuple[int, ...]],
) -> None:
    """Check that a file has the tensors of a network and no others.

    Args:
        expected: shapes by name.

    Raises:
        ValueError: names, shapes or types differ.
    """
    if missing := sorted(expected.keys() - found.keys()):
        raise ValueError(
            f"{path} lacks {len(missing)} of {len(expected)} tensors of the network in {CONFIG}, "
            f"like {missing[0]}"
        )
    if extra := sorted(found.keys() - expected.keys()):
        raise ValueError(f"{path}: {extra[0]} is no tensor of the network in {CONFIG}")
    for name, shape in expected.items():
        kind, size = found[name]
        if size != shape:
            raise ValueError(f"{path}: {name} has the shape {size}, but {CONFIG} requires {shape}")
        if kind != "F32":
            raise ValueError(f"{path}: {name} has the type {kind}, must be F32")


def check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Check that no weight is infinite or NaN.

    Raises:
        ValueError: one is.
    """
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            count = int((~torch.isfinite(weight)).sum())
            raise ValueError(
                f"{path}: {name}: {count:,} of {weight.numel():,} values are infinite or NaN; "
                "train the model again"
            )


def check_vocabulary(path: Path, values: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Check that a configuration and the tokenizer in the same folder have the same ids.

    Raises:
        ValueError: they differ.
    """
    theirs = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.end_of_text}
    for name, value in theirs.items():
        if values.get(name) != value:
            raise ValueError(
                f"{path}: {name} is {values.get(name)}, but the tokenizer in {RANKS} has {value}"
            )
