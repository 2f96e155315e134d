"""Qwen 3's network, and Llama's, which is the same without norms of queries and keys.

Rotary positions, RMS norms with weights, grouped heads, SwiGLU, no biases. `transformers` loads
them as `Qwen3ForCausalLM` (https://arxiv.org/abs/2505.09388) and `LlamaForCausalLM`
(https://arxiv.org/abs/2302.13971); llama.cpp, ollama, vLLM and MLX support both.

B: sequences in the batch, T: tokens in a sequence, C: width (`d_model`), H: heads, K: heads of keys
and values, D: width of a head, F: width of the MLP's hidden layer.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tinyllm.models.config import ModelConfig
from tinyllm.models.formulas import attend, norm, split_heads, swiglu_mlp
from tinyllm.models.huggingface import decoder_config, decoder_config_from
from tinyllm.models.model import (
    Decoder,
    HFNames,
    Layer,
    Linear,
    Model,
    draw_weights,
    rotary_angles,
)


def d_mlp(config: ModelConfig) -> int:
    """Width of the MLP's hidden layer (F): 8/3 of C, so that its three matrices hold 8 C².

    Rounded up to a multiple of 8, which suits the vector units of processors.
    """
    return -(-8 * config.d_model // 24) * 8


class Norm(nn.Module):
    """RMS norm with a weight for each feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return norm(x, self.weight)


class Attention(nn.Module):
    """Grouped causal self-attention with rotary positions; optionally normalises q and k."""

    def __init__(self, config: ModelConfig, normalise: bool) -> None:
        super().__init__()
        self.config = config
        self.qkv = Linear(config.d_model, config.d_queries + 2 * config.d_keys)
        self.q_norm = Norm(config.d_head) if normalise else None
        self.k_norm = Norm(config.d_head) if normalise else None
        self.out = Linear(config.d_queries, config.d_model)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, -1, self.config.d_head)  # (B, T, H + 2 K, D)
        if self.q_norm is not None and self.k_norm is not None:
            weights = self.q_norm.weight, self.k_norm.weight
            q, k, v = split_heads(
                qkv, self.config.n_head, cos, sin, normalise=True, weights=weights
            )
        else:
            q, k, v = split_heads(qkv, self.config.n_head, cos, sin, normalise=False)
        dropout = self.config.dropout if self.training else 0.0
        y = attend(q, k, v, dropout, mask)  # (B, H, T, D)
        return self.out(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = Linear(config.d_model, 2 * d_mlp(config))
        self.down = Linear(d_mlp(config), config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return swiglu_mlp(x, self.gate_up.weight.to(x.dtype), self.down.weight.to(x.dtype))


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, normalise: bool) -> None:
        super().__init__()
        self.attention_norm = Norm(config.d_model)
        self.attention = Attention(config, normalise)
        self.mlp_norm = Norm(config.d_model)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), cos, sin, mask))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Qwen3(Model):
    """Qwen 3's network."""

    HF_ARCHITECTURE = "Qwen3ForCausalLM"
    HF_SINCE = "4.51"
    ELSEWHERE = True
    MODEL_TYPE: ClassVar[str] = "qwen3"  # in transformers
    NORMALISE: ClassVar[bool] = True  # queries and keys

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.norm = Norm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        angles = rotary_angles(config)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def new_block(self) -> Block:
        return Block(self.config, self.NORMALISE)

    def hidden(self, tokens: Tensor) -> Tensor:
        """The normalised residual stream (B, T, C) after the last block."""
        T = tokens.size(1)
        assert len(self.cos) >= T, (T, self.config.context_length)
        x = self.dropout(self.embedding(tokens).to(self.compute_dtype))  # (B, T, C)
        mask = self.attention_mask(tokens)
        for block in self.blocks:
            x = block(x, self.cos[:T], self.sin[:T], mask)
        return self.norm(x)

    def initialise(self, generator: torch.Generator) -> None:
        draw_weights(self, ("attention.out.weight", "mlp.down.weight"), generator)

    def decoder(self) -> Decoder:
        layers = []
        for block in self.blocks:
            assert isinstance(block, Block)
            attention, mlp = block.attention, block.mlp
            layers.append(
                Layer(
                    qkv=attention.qkv.weight * block.attention_norm.weight,
                    q_norm=None if attention.q_norm is None else attention.q_norm.weight,
                    k_norm=None if attention.k_norm is None else attention.k_norm.weight,
                    out=attention.out.weight,
                    up=mlp.gate_up.weight * block.mlp_norm.weight,
                    down=mlp.down.weight,
                )
            )
        return Decoder(
            self.embedding.weight, layers, self.head_weight * self.norm.weight, self.cos, self.sin,
            normalised=self.NORMALISE, gated=True,
        )  # fmt: skip

    def hf_config(self) -> dict[str, Any]:
        """The values of transformers' Qwen3Config and LlamaConfig."""
        return decoder_config(
            self.config,
            model_type=self.MODEL_TYPE,
            intermediate_size=d_mlp(self.config),
            hidden_act="silu",
            head_dim=self.config.d_head,
            sliding_window=None,  # transformers 4.51 has another default, and warns of it
        )

    @classmethod
    def config_from_hf(cls, architecture: str, values: dict[str, Any]) -> ModelConfig:
        return decoder_config_from(architecture, values)

    def hf_names(self) -> HFNames:
        layer, q, kv = "model.layers.*.", self.config.d_queries, self.config.d_keys
        return {
            "embedding.weight": "model.embed_tokens.weight",
            "norm.weight": "model.norm.weight",
            "head.weight": "lm_head.weight",
            "blocks.*.attention_norm.weight": f"{layer}input_layernorm.weight",
            "blocks.*.attention.qkv.weight": {
                f"{layer}self_attn.q_proj.weight": q,
                f"{layer}self_attn.k_proj.weight": kv,
                f"{layer}self_attn.v_proj.weight": kv,
            },
            "blocks.*.attention.q_norm.weight": f"{layer}self_attn.q_norm.weight",
            "blocks.*.attention.k_norm.weight": f"{layer}self_attn.k_norm.weight",
            "blocks.*.attention.out.weight": f"{layer}self_attn.o_proj.weight",
            "blocks.*.mlp_norm.weight": f"{layer}post_attention_layernorm.weight",
            "blocks.*.mlp.gate_up.weight": {
                f"{layer}mlp.gate_proj.weight": d_mlp(self.config),
                f"{layer}mlp.up_proj.weight": d_mlp(self.config),
            },
            "blocks.*.mlp.down.weight": f"{layer}mlp.down_proj.weight",
        }


class Llama(Qwen3):
    """Llama's network: queries and keys are not normalised."""

    HF_ARCHITECTURE = "LlamaForCausalLM"
    HF_SINCE = "4.45"  # older ones can't read its tokenizer.json
    MODEL_TYPE = "llama"
    NORMALISE = False
