"""The network: a decoder-only transformer, and nothing else.

The architecture is the one that `transformers` knows as `NanoChatForCausalLM`: rotary positions,
RMS norm without weights, normalised queries and keys, a squared-ReLU MLP, no biases, and an output
head of its own (not tied to the embedding). `tinyllm.model.export` writes it in that format.

B: sequences in the batch, T: tokens in a sequence, C: width (`d_model`), H: heads, D: width of a
head, V: vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyllm.model.kernels import attend, cross_entropy, mlp, norm, split_heads

ROPE_THETA = 10_000.0


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the network's shape.

    Attributes:
        vocab_size: tokens in the vocabulary (V).
        context_length: tokens the network can look back on (the largest T).
        n_layer: transformer blocks.
        n_head: attention heads (H); divides `d_model` into heads of an even width.
        d_model: width of the residual stream (C).
        dropout: share of activations zeroed in training, 0 to 1.
    """

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    d_model: int
    dropout: float = 0.0

    @property
    def d_mlp(self) -> int:
        """Width of the MLP's hidden layer."""
        return 4 * self.d_model

    @property
    def d_head(self) -> int:
        """Width of a head (D)."""
        return self.d_model // self.n_head


class Linear(nn.Linear):
    """A bias-free linear layer that computes in its input's precision.

    The weights stay fp32 for the optimizer and are cast for the product. That does what autocast
    does here, without its look-up at every operation.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Multi-head causal self-attention with rotary positions and normalised queries and keys."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.qkv = Linear(config.d_model, 3 * config.d_model)
        self.out = Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_head, C // self.n_head)
        q, k, v = split_heads(qkv, cos, sin)  # each (B, H, T, D)
        y = attend(q, k, v, self.dropout if self.training else 0.0)
        return self.out(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """Two linear layers around a squared ReLU (https://arxiv.org/abs/2109.08668)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = Linear(config.d_model, config.d_mlp)
        self.down = Linear(config.d_mlp, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return mlp(x, self.up.weight.to(x.dtype), self.down.weight.to(x.dtype))


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(norm(x), cos, sin))
        return x + self.dropout(self.mlp(norm(x)))


class TinyLLM(nn.Module):
    """A decoder-only language model: token ids in, logits of the next token out.

    Args:
        config: its shape.
        generator: draws the initial weights; None leaves them to whoever loads some.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.head = Linear(config.d_model, config.vocab_size)
        self.dropout = nn.Dropout(config.dropout)
        self.compute_dtype = torch.float32
        self.cross_entropy = cross_entropy  # an attribute, so that it may be compiled

        pairs = torch.arange(0, config.d_head, 2, dtype=torch.float32) / config.d_head
        positions = torch.arange(config.context_length, dtype=torch.float32)
        angles = torch.outer(positions, ROPE_THETA**-pairs)  # (T, D / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        if generator is not None:
            self.initialise(generator)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial weights.

        The layers that write to the residual stream start at zero, and the head nearly so: at first
        each block passes its input on, and the loss is ln(V), that of a uniform guess.
        """
        nn.init.normal_(self.embedding.weight, std=1.0, generator=generator)
        nn.init.normal_(self.head.weight, std=0.001, generator=generator)
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer in (block.attention.qkv, block.mlp.up):
                nn.init.normal_(layer.weight, std=self.config.d_model**-0.5, generator=generator)
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.mlp.down.weight)

    @property
    def n_parameters(self) -> int:
        """How many weights are trained."""
        return sum(p.numel() for p in self.parameters())

    def hidden(self, tokens: Tensor) -> Tensor:
        """What the head reads: the normalised residual stream (B, T, C) after the last block."""
        T = tokens.size(1)
        assert len(self.cos) >= T, (T, self.config.context_length)
        x = self.dropout(norm(self.embedding(tokens).to(self.compute_dtype)))  # (B, T, C)
        for block in self.blocks:
            x = block(x, self.cos[:T], self.sin[:T])
        return norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V), fp32, of the token after each position of ids (B, T)."""
        return self.head(self.hidden(tokens)).float()

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Sum of the cross-entropies in nats, a scalar.

        Args:
            tokens, targets: ids (B, T); the targets are the inputs shifted by one, IGNORE left out.
        """
        x = self.hidden(tokens).flatten(0, 1)  # (B * T, C)
        return self.cross_entropy(x, self.head.weight, targets.flatten())
