"""The trained model as a folder that `transformers` and its relatives load as it stands."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from tinyllm.common.files import checked, publish_folder, read_json, seal, write_json
from tinyllm.model.hub import write_tokenizer
from tinyllm.model.kernels import NORM_EPS
from tinyllm.model.transformer import ROPE_THETA, ModelConfig, TinyLLM
from tinyllm.tokens.tokenizer import Tokenizer

ARCHITECTURE = "NanoChatForCausalLM"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(folder: Path, model: TinyLLM, tokenizer: Tokenizer) -> None:
    """Publish a model folder: weights in safetensors, configuration, tokenizer."""
    with publish_folder(folder) as new:
        # One metadata key: with several their order, and so the bytes, vary (safetensors #584).
        (new / WEIGHTS).write_bytes(save(to_hub(model.state_dict()), metadata={"format": "pt"}))
        write_json(new / CONFIG, hub_config(model.config, tokenizer.end_of_text))
        write_json(
            new / "generation_config.json",
            dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.end_of_text),
        )
        tokenizer.save(new)
        write_tokenizer(new, tokenizer.encoding, model.config.context_length)
        seal(new)  # a flipped bit in weights would load without a word


def load_model(folder: Path) -> tuple[TinyLLM, Tokenizer]:
    """Read what `save_model` wrote.

    Raises:
        ValueError: it is missing or damaged, or holds another kind of model.
    """
    config = read_json(checked(folder, CONFIG))
    if config.get("architectures") != [ARCHITECTURE]:
        raise ValueError(f"{folder / CONFIG}: holds no {ARCHITECTURE}")
    model = TinyLLM(
        ModelConfig(
            vocab_size=config["vocab_size"],
            context_length=config["max_position_embeddings"],
            n_layer=config["num_hidden_layers"],
            n_head=config["num_attention_heads"],
            d_model=config["hidden_size"],
            dropout=config["attention_dropout"],
        )
    )
    weights = checked(folder, WEIGHTS)
    try:
        model.load_state_dict(from_hub(load_file(weights)))
    except Exception as error:  # safetensors has an error of its own for a damaged file
        raise ValueError(f"{weights} is damaged: {error}") from None
    return model, Tokenizer.load(folder)


def hub_config(config: ModelConfig, end_of_text: int) -> dict[str, Any]:
    """The shape in the words of transformers' NanoChatConfig."""
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "nanochat",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_mlp,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_head,
        "max_position_embeddings": config.context_length,
        "attention_dropout": config.dropout,
        "hidden_act": "relu2",
        "rms_norm_eps": NORM_EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "final_logit_softcapping": None,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "pad_token_id": None,  # or else fine-tuning would leave that token's embedding as it is
        "dtype": "float32",
    }


_NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "head.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attention.out.weight": "self_attn.o_proj.weight",
    "mlp.up.weight": "mlp.fc1.weight",
    "mlp.down.weight": "mlp.fc2.weight",
}
_QKV = ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight")


def to_hub(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under transformers' names; queries, keys and values are three matrices there."""
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        weight = weight.detach().cpu()
        if not name.startswith("blocks."):
            renamed[_NAMES[name]] = weight
            continue
        _, layer, part = name.split(".", 2)
        if part == "attention.qkv.weight":
            parts = zip(_QKV, weight.chunk(3), strict=True)
            renamed |= {f"model.layers.{layer}.{name}": piece.clone() for name, piece in parts}
        else:
            renamed[f"model.layers.{layer}.{_LAYER_NAMES[part]}"] = weight
    return {name: renamed[name].contiguous() for name in sorted(renamed)}


def from_hub(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_hub`."""
    renamed = {ours: weights[theirs] for ours, theirs in _NAMES.items()}
    layers = 1 + max(int(name.split(".")[2]) for name in weights if ".layers." in name)
    for layer in range(layers):
        theirs = f"model.layers.{layer}."
        qkv = torch.cat([weights[theirs + name] for name in _QKV])
        renamed[f"blocks.{layer}.attention.qkv.weight"] = qkv
        for ours, name in _LAYER_NAMES.items():
            renamed[f"blocks.{layer}.{ours}"] = weights[theirs + name]
    return renamed
