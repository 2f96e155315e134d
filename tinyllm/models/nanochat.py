"""nanochat's network (https://github.com/karpathy/nanochat).

Rotary positions, RMS norms without weights, normalised queries and keys, a normalised embedding, a
squared-ReLU MLP, no biases. `transformers` loads it as `NanoChatForCausalLM`.

B: sequences in the batch, T: tokens in a sequence, C: width (`d_model`), H: heads, K: heads of keys
and values, D: width of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tinyllm.models.config import ModelConfig
from tinyllm.models.formulas import attend, norm, split_heads, squared_relu_mlp
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


class Attention(nn.Module):
    """Multi-head causal self-attention with rotary positions and normalised queries and keys."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = Linear(config.d_model, config.d_queries + 2 * config.d_keys)
        self.out = Linear(config.d_queries, config.d_model)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, -1, self.config.d_head)  # (B, T, H + 2 K, D)
        q, k, v = split_heads(qkv, self.config.n_head, cos, sin, normalise=True)
        dropout = self.config.dropout if self.training else 0.0
        y = attend(q, k, v, dropout, mask)  # (B, H, T, D)
        return self.out(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """Two linear layers around a squared ReLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = Linear(config.d_model, 4 * config.d_model)
        self.down = Linear(4 * config.d_model, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return squared_relu_mlp(x, self.up.weight.to(x.dtype), self.down.weight.to(x.dtype))


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(norm(x), cos, sin, mask))
        return x + self.dropout(self.mlp(norm(x)))


class NanoChat(Model):
    """nanochat's network; see the module."""

    HF_ARCHITECTURE = "NanoChatForCausalLM"
    HF_SINCE = "5.0"

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        angles = -rotary_angles(config)  # nanochat rotates in the opposite direction
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def new_block(self) -> Block:
        return Block(self.config)

    def hidden(self, tokens: Tensor) -> Tensor:
        """The normalised residual stream (B, T, C) after the last block."""
        T = tokens.size(1)
        assert len(self.cos) >= T, (T, self.config.context_length)
        x = self.dropout(norm(self.embedding(tokens).to(self.compute_dtype)))  # (B, T, C)
        mask = self.attention_mask(tokens)
        for block in self.blocks:
            x = block(x, self.cos[:T], self.sin[:T], mask)
        return norm(x)

    def initialise(self, generator: torch.Generator) -> None:
        draw_weights(self, ("attention.out.weight", "mlp.down.weight"), generator)

    def decoder(self) -> Decoder:
        layers = []
        for block in self.blocks:
            assert isinstance(block, Block)
            attention, mlp = block.attention, block.mlp
            layers.append(
                Layer(attention.qkv.weight, None, None, attention.out.weight, mlp.up.weight,
                      mlp.down.weight)
            )  # fmt: skip
        embedding = norm(self.embedding.weight.detach())
        return Decoder(embedding, layers, self.head_weight, self.cos, self.sin,
                       normalised=True, gated=False)  # fmt: skip

    def hf_config(self) -> dict[str, Any]:
        """The values of transformers' NanoChatConfig."""
        return decoder_config(
            self.config,
            model_type="nanochat",
            intermediate_size=4 * self.config.d_model,
            hidden_act="relu2",
            final_logit_softcapping=None,
        )

    @classmethod
    def config_from_hf(cls, architecture: str, values: dict[str, Any]) -> ModelConfig:
        return decoder_config_from(architecture, values)

    def hf_names(self) -> HFNames:
        layer, q, kv = "model.layers.*.", self.config.d_queries, self.config.d_keys
        return {
            "embedding.weight": "model.embed_tokens.weight",
            "head.weight": "lm_head.weight",
            "blocks.*.attention.qkv.weight": {
                f"{layer}self_attn.q_proj.weight": q,
                f"{layer}self_attn.k_proj.weight": kv,
                f"{layer}self_attn.v_proj.weight": kv,
            },
            "blocks.*.attention.out.weight": f"{layer}self_attn.o_proj.weight",
            "blocks.*.mlp.up.weight": f"{layer}mlp.fc1.weight",
            "blocks.*.mlp.down.weight": f"{layer}mlp.fc2.weight",
        }
