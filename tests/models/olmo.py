"""OLMo's network (https://arxiv.org/abs/2402.00838), an example of adding an architecture.

docs/architecture.md explains it. Every test with the fixture `architecture` also runs on it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyllm.models.config import ModelConfig
from tinyllm.models.formulas import attend, split_heads, swiglu_mlp
from tinyllm.models.huggingface import decoder_config, decoder_config_from
from tinyllm.models.model import HFNames, Linear, Model, rotary_angles


def layer_norm(x: Tensor) -> Tensor:
    """Layer norm without weights and biases, in fp32."""
    return F.layer_norm(x.float(), x.shape[-1:]).to(x.dtype)


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = Linear(config.d_model, config.d_queries + 2 * config.d_keys)
        self.out = Linear(config.d_queries, config.d_model)
        self.gate_up = Linear(config.d_model, 6 * config.d_model)
        self.down = Linear(3 * config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(layer_norm(x), cos, sin, mask))
        up, down = self.gate_up.weight.to(x.dtype), self.down.weight.to(x.dtype)
        return x + self.dropout(swiglu_mlp(layer_norm(x), up, down))

    def attention(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, -1, self.config.d_head)  # (B, T, H + 2 K, D)
        q, k, v = split_heads(qkv, self.config.n_head, cos, sin, normalise=False)
        dropout = self.config.dropout if self.training else 0.0
        y = attend(q, k, v, dropout, mask)  # (B, H, T, D)
        return self.out(y.transpose(1, 2).reshape(B, T, C))


class Olmo(Model):
    HF_ARCHITECTURE = "OlmoForCausalLM"
    HF_SINCE = "4.45"

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        angles = rotary_angles(config)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def new_block(self) -> nn.Module:
        return Block(self.config)

    def hidden(self, tokens: Tensor) -> Tensor:
        T = tokens.size(1)
        x = self.embedding(tokens).to(self.compute_dtype)  # (B, T, C)
        mask = self.attention_mask(tokens)
        for block in self.blocks:
            x = block(x, self.cos[:T], self.sin[:T], mask)
        return layer_norm(x)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.002, generator=generator)

    def hf_config(self) -> dict[str, Any]:
        return decoder_config(
            self.config,
            model_type="olmo",
            intermediate_size=3 * self.config.d_model,
            hidden_act="silu",
            clip_qkv=None,
        )

    @classmethod
    def config_from_hf(cls, architecture: str, values: dict[str, Any]) -> ModelConfig:
        return decoder_config_from(architecture, values)

    def hf_names(self) -> HFNames:
        layer, C = "model.layers.*.", self.config.d_model
        return {
            "embedding.weight": "model.embed_tokens.weight",
            "head.weight": "lm_head.weight",
            "blocks.*.qkv.weight": {
                f"{layer}self_attn.q_proj.weight": self.config.d_queries,
                f"{layer}self_attn.k_proj.weight": self.config.d_keys,
                f"{layer}self_attn.v_proj.weight": self.config.d_keys,
            },
            "blocks.*.out.weight": f"{layer}self_attn.o_proj.weight",
            "blocks.*.gate_up.weight": {
                f"{layer}mlp.gate_proj.weight": 3 * C,
                f"{layer}mlp.up_proj.weight": 3 * C,
            },
            "blocks.*.down.weight": f"{layer}mlp.down_proj.weight",
        }
