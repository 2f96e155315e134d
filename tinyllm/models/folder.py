"""The trained model as a folder that `transformers` and compatible libraries load directly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save

from tinyllm.common.files import checked, publish_folder, read_json, seal, write_json
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.config import ModelConfig
from tinyllm.models.hf_tokenizer import write_tokenizer
from tinyllm.models.huggingface import weights_from_hf, weights_to_hf
from tinyllm.models.model import Model
from tinyllm.models.registry import ARCHITECTURES, TinyLLM, class_of

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MASK = "document_mask"  # in CONFIG if true; transformers ignores it


def save_model(folder: Path, model: Model, tokenizer: Tokenizer) -> None:
    """Publish a model folder: weights in safetensors, configuration, tokenizer."""
    with publish_folder(folder) as new:
        weights = weights_to_hf(model.state_dict(), model.hf_names())
        # One metadata key: the order of several varies, and so do the bytes (safetensors #584).
        (new / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
        write_json(new / CONFIG, hf_config(model, tokenizer.end_of_text))
        write_json(
            new / "generation_config.json",
            dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.end_of_text),
        )
        tokenizer.save(new)
        write_tokenizer(new, tokenizer.encoding, model.config.context_length)
        seal(new)  # a flipped bit in weights would load without an error


def load_model(folder: Path) -> tuple[Model, Tokenizer]:
    """Read what `save_model` wrote.

    Raises:
        ValueError: it is missing or corrupt, or holds another kind of model.
    """
    return load_network(folder), Tokenizer.load(folder)


def read_config(folder: Path) -> ModelConfig:
    """Read the shape of the model in a folder.

    Raises:
        ValueError: as for `load_model`.
    """
    values = read_json(checked(folder, CONFIG))
    known = {class_of(name).HF_ARCHITECTURE: name for name in ARCHITECTURES}
    theirs = values.get("architectures")
    if not isinstance(theirs, list) or len(theirs) != 1 or theirs[0] not in known:
        raise ValueError(f"{folder / CONFIG}: architectures: {theirs}: must be one of {known}")
    name = known[theirs[0]]
    config = class_of(name).config_from_hf(name, values)
    return replace(config, document_end=values["eos_token_id"] if values.get(MASK) else None)


def load_network(folder: Path, config: ModelConfig | None = None) -> Model:
    """Read the model of a folder without its tokenizer.

    Args:
        config: a shape with the same weights; None for the model's own.

    Raises:
        ValueError: as for `load_model`.
    """
    model = TinyLLM(config or read_config(folder))
    weights = checked(folder, WEIGHTS)
    try:
        found = weights_from_hf(load_file(weights), model.state_dict(), model.hf_names())
        model.load_state_dict(found)
    except Exception as error:  # safetensors raises its own error class for a corrupt file
        raise ValueError(f"{weights} is corrupt: {error}") from None
    return model


def hf_config(model: Model, end_of_text: int) -> dict[str, Any]:
    """The configuration for transformers: class, shape, special tokens."""
    return {
        "architectures": [model.HF_ARCHITECTURE],
        **model.hf_config(),
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "pad_token_id": None,  # otherwise fine-tuning would not update that token's embedding
        "dtype": "float32",
        **({} if model.config.document_end is None else {MASK: True}),
    }
