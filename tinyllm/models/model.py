"""`Model`, the interface of every network. docs/architecture.md shows how to add one.

B: sequences in the batch, T: tokens in a sequence, C: width (`d_model`), V: vocabulary.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyllm.models.config import ROPE_THETA, ModelConfig
from tinyllm.models.formulas import cross_entropy, document_mask


class ParameterGroups(NamedTuple):
    """A network's weights, in groups that optimizers treat differently.

    Attributes:
        embedding: of the tokens; a row gets a gradient only when its token is in the batch.
        hidden: the blocks' matrices, which Muon updates orthogonally.
        head: the matrix that computes the logits; empty if it is tied to the embedding.
        vectors: weights of norms and similar, which get no weight decay.
    """

    embedding: list[nn.Parameter]
    hidden: list[nn.Parameter]
    head: list[nn.Parameter]
    vectors: list[nn.Parameter]


class Linear(nn.Linear):
    """A bias-free linear layer that computes in its input's precision.

    The weights stay fp32 for the optimizer and are cast for the product. The effect is that of
    autocast, without its look-up at every operation.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Model(nn.Module, ABC):
    """A decoder-only language model: token ids in, logits of the next token out.

    A subclass defines the abstract methods and names its class in transformers.

    Attributes:
        config: the network's shape.
        embedding: embedding of the tokens (V, C).
        blocks: identical layers; FSDP shards each separately, and torch's compiler compiles each
            separately.
        head: computes the logits; None if the embedding's weights do.
        compute_dtype: type of activations and products; the weights stay fp32.
        cross_entropy: an attribute, so that it can be replaced by a compiled function.
    """

    HF_ARCHITECTURE: ClassVar[str]
    HF_SINCE: ClassVar[str]  # first version of transformers that loads the model folder
    ELSEWHERE: ClassVar[bool] = False  # whether llama.cpp, vLLM and MLX know it too

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # `nn.Embedding(V, C)` draws weights, which `initialise` draws again; on "meta" it imports
        # torch's compiler for that (1.6 s, as long as torch itself).
        empty = torch.empty(config.vocab_size, config.d_model)
        self.embedding = nn.Embedding.from_pretrained(empty, freeze=False)
        self.blocks = nn.ModuleList(self.new_block() for _ in range(config.n_layer))
        self.head = None if config.tie_embeddings else Linear(config.d_model, config.vocab_size)
        self.compute_dtype = torch.float32
        self.cross_entropy = cross_entropy

    @abstractmethod
    def new_block(self) -> nn.Module:
        """Make a layer for `blocks`."""

    @abstractmethod
    def hidden(self, tokens: Tensor) -> Tensor:
        """The head's input (B, T, C) after each token of ids (B, T)."""

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial weights from this generator only."""

    @abstractmethod
    def hf_config(self) -> dict[str, Any]:
        """The shape under the names of the class in transformers, without special tokens."""

    @classmethod
    @abstractmethod
    def config_from_hf(cls, architecture: str, values: dict[str, Any]) -> ModelConfig:
        """The inverse of `hf_config`."""

    @abstractmethod
    def hf_names(self) -> "HFNames":
        """The name in transformers of each weight, by its name here; * is a block's number.

        For a matrix that transformers stores in parts, their names and rows, from the top.
        """

    def decoder(self) -> "Decoder | None":
        """The weights for `tinyllm.generation.inference`, which is several times faster.

        None if the network is of another kind: it then computes the whole context again for each
        generated token.
        """
        return None

    def parameter_groups(self) -> ParameterGroups:
        """The weights, in groups that optimizers treat differently."""
        return ParameterGroups(
            embedding=list(self.embedding.parameters()),
            hidden=[p for p in self.blocks.parameters() if p.ndim >= 2],
            head=[] if self.head is None else list(self.head.parameters()),
            vectors=[p for p in self.parameters() if p.ndim < 2],
        )

    @property
    def head_weight(self) -> Tensor:
        """The weights that compute the logits (V, C)."""
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.embedding.weight.device

    @property
    def n_parameters(self) -> int:
        """The number of trained weights."""
        return sum(p.numel() for p in self.parameters())

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V), fp32, from the output of `hidden` (..., C)."""
        return F.linear(hidden, self.head_weight.to(hidden.dtype)).float()

    def attention_mask(self, tokens: Tensor) -> Tensor | None:
        """The mask for `attend` (B, H, T, T) that keeps documents apart; None if it isn't needed.

        A token that ends a document belongs to the next one, whose first token it predicts.
        """
        if self.config.document_end is None:
            return None
        documents = (tokens == self.config.document_end).cumsum(dim=1)
        return document_mask(documents, documents, self.config.n_head, self.compute_dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V), fp32, of the token after each position of ids (B, T)."""
        return self.logits(self.hidden(tokens))

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Sum of the cross-entropies in nats, a scalar.

        Args:
            tokens, targets: ids (B, T); the targets are the inputs shifted by one, or IGNORE.
        """
        x = self.hidden(tokens).flatten(0, 1)  # (B * T, C)
        return self.cross_entropy(x, self.head_weight, targets.flatten())


@torch.no_grad()
def draw_weights(model: Model, writers: tuple[str, ...], generator: torch.Generator) -> None:
    """Draw the initial weights of a network whose blocks add to a residual stream.

    The matrices that write to the stream start at zero, and the head close to zero: at first each
    block returns its input, and the loss is ln(V), that of a uniform guess.

    Args:
        writers: the names in a block of the matrices that write to the stream.
    """
    C = model.config.d_model
    if model.head is None:
        nn.init.normal_(model.embedding.weight, std=0.1 * C**-0.5, generator=generator)
    else:
        nn.init.normal_(model.embedding.weight, std=1.0, generator=generator)
        nn.init.normal_(model.head.weight, std=0.001, generator=generator)
    for block in model.blocks:
        matrices = {name: p for name, p in block.named_parameters() if p.ndim >= 2}
        assert matrices.keys() >= set(writers), (matrices.keys(), writers)
        for name, matrix in matrices.items():
            if name in writers:
                nn.init.zeros_(matrix)
            else:
                nn.init.normal_(matrix, std=C**-0.5, generator=generator)


HFNames = dict[str, str | dict[str, int]]


class Layer(NamedTuple):
    """A block's weights for `Inference`, multiplied by the weights of the norms before them.

    Attributes:
        qkv: (H * D + 2 * K * D, C).
        q_norm, k_norm: weights of the norms of queries and keys (D,); None for ones.
        out: (C, C).
        up: (F, C) for a squared ReLU; (2 F, C) for SwiGLU: the gate, then up.
        down: (C, F).
    """

    qkv: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Tensor
    up: Tensor
    down: Tensor


class Decoder(NamedTuple):
    """A network for `Inference`: RMS norms, rotary positions, causal attention, an MLP.

    Attributes:
        embedding: the first block's input for each token (V, C), fp32.
        layers: the blocks.
        head: (V, C), multiplied by the last norm's weights.
        cos, sin: of the rotation angles of queries and keys, (context_length, D / 2).
        normalised: whether queries and keys are normalised.
        gated: True for a SwiGLU MLP, False for a squared ReLU.
    """

    embedding: Tensor
    layers: list[Layer]
    head: Tensor
    cos: Tensor
    sin: Tensor
    normalised: bool
    gated: bool


def rotary_angles(config: ModelConfig) -> Tensor:
    """Angle of each position for each pair of features (context_length, D / 2), fp32.

    Rotary positions, https://arxiv.org/abs/2104.09864.
    """
    # Computed on the CPU: on "meta", arange imports torch's compiler.
    pairs = torch.arange(0, config.d_head, 2, dtype=torch.float32, device="cpu") / config.d_head
    positions = torch.arange(config.context_length, dtype=torch.float32, device="cpu")
    return torch.outer(positions, ROPE_THETA**-pairs)
