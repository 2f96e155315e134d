"""Weights and configurations under their names in `transformers`."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from tinyllm.models.config import NORM_EPS, ROPE_THETA, ModelConfig
from tinyllm.models.model import HFNames, Model


def decoder_config(
    config: ModelConfig, *, model_type: str, intermediate_size: int, hidden_act: str, **own: Any
) -> dict[str, Any]:
    """The configuration of a Llama-like model: the common values, and those of one architecture."""
    return {
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "max_position_embeddings": config.context_length,
        "attention_dropout": config.dropout,
        "hidden_act": hidden_act,
        "rms_norm_eps": NORM_EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "rope_theta": ROPE_THETA,  # where transformers 4 and programs of its time look for it
        **own,
        "attention_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
    }


def decoder_config_from(architecture: str, values: dict[str, Any]) -> ModelConfig:
    """The inverse of `decoder_config`."""
    return ModelConfig(
        architecture=architecture,
        vocab_size=values["vocab_size"],
        context_length=values["max_position_embeddings"],
        n_layer=values["num_hidden_layers"],
        n_head=values["num_attention_heads"],
        n_kv_head=values["num_key_value_heads"],
        d_model=values["hidden_size"],
        dropout=values["attention_dropout"],
        tie_embeddings=values["tie_word_embeddings"],
    )


def weights_to_hf(weights: dict[str, Tensor], names: HFNames) -> dict[str, Tensor]:
    """A model's weights under transformers' names, sorted by name; copies on the CPU.

    Args:
        names: as returned by `Model.hf_names`.
    """
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        parts = _parts(name, names)
        pieces = weight.detach().cpu().split([rows or len(weight) for rows in parts.values()])
        renamed |= {
            theirs: piece.clone(memory_format=torch.contiguous_format)
            for theirs, piece in zip(parts, pieces, strict=True)
        }
    return dict(sorted(renamed.items()))


def weights_from_hf(
    weights: dict[str, Tensor], own: dict[str, Tensor], names: HFNames
) -> dict[str, Tensor]:
    """The inverse of `weights_to_hf`.

    Args:
        own: a dictionary whose keys are the names of the model's weights.

    Raises:
        KeyError: a weight is missing.
    """
    return {name: torch.cat([weights[part] for part in _parts(name, names)]) for name in own}


def hf_shapes(weights: dict[str, Tensor], names: HFNames) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that `weights_to_hf` returns; the weights may be on "meta"."""
    return {
        theirs: (rows or len(weight), *weight.shape[1:])
        for name, weight in weights.items()
        for theirs, rows in _parts(name, names).items()
    }


def rows_of_parts(model: Model) -> dict[nn.Parameter, list[int]]:
    """The weights that hold several matrices, one above the other, with the rows of each."""
    names = model.hf_names()
    found = {weight: _parts(name, names) for name, weight in model.named_parameters()}
    return {
        weight: [rows for rows in parts.values() if rows]
        for weight, parts in found.items()
        if len(parts) > 1
    }


def _parts(name: str, names: HFNames) -> dict[str, int | None]:
    """A weight's names in transformers, each with its number of rows; None for all rows."""
    number = re.search(r"\d+", name)
    found = names[re.sub(r"\d+", "*", name, count=1)]
    rows: dict[str, int | None] = dict.fromkeys([found]) if isinstance(found, str) else {**found}
    return {part.replace("*", number[0]) if number else part: n for part, n in rows.items()}
