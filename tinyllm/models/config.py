"""The shape of a network, and the constants that all architectures share."""

from dataclasses import dataclass

NORM_EPS = 1e-6  # added to the mean square in every RMS norm
ROPE_THETA = 10_000.0  # the longest wavelength of rotary positions, over 2 pi
IGNORE = -1  # a target that is not scored


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides a network's shape.

    Attributes:
        architecture: its name in `tinyllm.models.registry`.
        vocab_size: tokens in the vocabulary (V).
        context_length: tokens that attention can see (the largest T).
        n_layer: transformer blocks.
        n_head: attention heads (H); divides `d_model` into heads of an even width.
        n_kv_head: heads of keys and values (K); divides `n_head`. With fewer than `n_head`, several
            heads of queries share one (https://arxiv.org/abs/2305.13245).
        d_model: width of the residual stream (C).
        dropout: fraction of activations zeroed in training, 0 to below 1.
        tie_embeddings: whether the head's weights are the embedding's.
        document_end: id of the token that ends a document, if attention doesn't cross documents;
            None if it sees the whole window.
    """

    architecture: str
    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    n_kv_head: int
    d_model: int
    dropout: float = 0.0
    tie_embeddings: bool = False
    document_end: int | None = None

    @property
    def d_head(self) -> int:
        """Width of a head (D)."""
        return self.d_model // self.n_head

    @property
    def d_queries(self) -> int:
        """Width of all queries together (H * D), which equals C."""
        return self.n_head * self.d_head

    @property
    def d_keys(self) -> int:
        """Width of all keys together (K * D), and of all values."""
        return self.n_kv_head * self.d_head
