"""The trained model as a folder that `transformers` and compatible libraries load directly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from tinyllm.common.files import checked, publish_folder, read_json, seal, write_json
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models import folder_checks as checks
from tinyllm.models.config import ModelConfig
from tinyllm.models.folder_checks import CONFIG, WEIGHTS
from tinyllm.models.hf_tokenizer import special_ids, write_tokenizer
from tinyllm.models.huggingface import hf_shapes, weights_from_hf, weights_to_hf
from tinyllm.models.model import Model
from tinyllm.models.registry import ARCHITECTURES, TinyLLM, class_of

__all__ = ["CONFIG", "WEIGHTS", "load_model", "load_network", "read_config", "save_model"]

MASK = "document_mask"  # in CONFIG if true; transformers ignores it


def save_model(folder: Path, model: Model, tokenizer: Tokenizer) -> None:
    """Publish a model folder: weights in safetensors, configuration, tokenizer."""
    with publish_folder(folder) as new:
        weights = weights_to_hf(model.state_dict(), model.hf_names())
        # One metadata key: the order of several varies, and so do the bytes (safetensors #584).
        (new / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
        write_json(new / CONFIG, hf_config(model, tokenizer))
        write_json(new / "generation_config.json", special_ids(tokenizer.encoding))
        tokenizer.save(new)
        write_tokenizer(new, tokenizer.encoding, model.config.context_length)
        seal(new)  # a flipped bit in weights would load without an error


def load_model(folder: Path) -> tuple[Model, Tokenizer]:
    """Read what `save_model` wrote.

    Raises:
        ValueError: it is missing or corrupt, its files disagree, or it holds something else.
    """
    model, tokenizer = load_network(folder), Tokenizer.load(folder)
    checks.check_vocabulary(folder / CONFIG, read_json(folder / CONFIG), tokenizer)
    return model, tokenizer


def read_config(folder: Path) -> ModelConfig:
    """Read the shape of the model in a folder.

    Raises:
        ValueError: as for `load_model`.
    """
    path = checked(folder, CONFIG)
    values = read_json(path)
    known = {class_of(name).HF_ARCHITECTURE: name for name in ARCHITECTURES}
    theirs = values.get("architectures") if isinstance(values, dict) else None
    name = next((name for architecture, name in known.items() if theirs == [architecture]), None)
    if name is None:
        raise ValueError(f"{path}: architectures is {theirs}, must be one of {', '.join(known)}")
    try:
        config = class_of(name).config_from_hf(name, values)
        end_of_text = values["eos_token_id"]
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]} is missing") from None
    checks.check_shape(path, config)
    return replace(config, document_end=end_of_text if values.get(MASK) else None)


def load_network(folder: Path, config: ModelConfig | None = None) -> Model:
    """Read the model of a folder without its tokenizer.

    Args:
        config: a shape with the same weights; None for the model's own.

    Raises:
        ValueError: as for `load_model`.
    """
    checks.check_folder(folder)
    own, path = read_config(folder), checked(folder, WEIGHTS)
    found = checks.header_of(path)
    if own.n_layer > len(found):  # before that many layers are made
        raise ValueError(
            f"{folder / CONFIG}: num_hidden_layers is {own.n_layer:,}, but {WEIGHTS} has only "
            f"{len(found)} tensors"
        )
    with torch.device("meta"):  # takes no memory, however large the configured network is
        network = TinyLLM(own)
    checks.check_same(folder / CONFIG, read_json(folder / CONFIG), network.hf_config())
    checks.check_tensors(path, found, hf_shapes(network.state_dict(), network.hf_names()))
    weights = load_file(path)
    checks.check_finite(path, weights)
    model = TinyLLM(config or own)
    model.load_state_dict(weights_from_hf(weights, model.state_dict(), model.hf_names()))
    return model


def hf_config(model: Model, tokenizer: Tokenizer) -> dict[str, Any]:
    """The configuration for transformers: class, shape, special tokens."""
    return {
        "architectures": [model.HF_ARCHITECTURE],
        **model.hf_config(),
        **special_ids(tokenizer.encoding),
        "dtype": "float32",
        **({} if model.config.document_end is None else {MASK: True}),
    }
