"""The settings of `train`."""

from typing import Annotated, Literal

from pydantic import Field

from tinyllm.settings.init_from import InitFrom
from tinyllm.settings.section import Count, NonNegative, Positive, Section, Share


class Train(Section):
    init_from: InitFrom
    architecture: str
    n_layer: Count
    n_head: Count
    n_kv_head: Count | None
    d_model: Count
    context_length: Annotated[int, Field(ge=2)]
    dropout: Share
    tie_embeddings: bool
    document_mask: bool
    batch_size: Count
    micro_batch_size: Count | None
    optimizer: Literal["adamw", "adam", "sgd", "muon"]
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)]
    momentum: Share
    weight_decay: NonNegative
    grad_clip: Positive | None
    max_steps: Count
    schedule: Literal["cosine", "linear", "wsd"]
    learning_rate: Positive
    min_learning_rate: NonNegative
    cooldown_fraction: Annotated[float, Field(gt=0, le=1)]
    embedding_rate_multiplier: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    decay_steps: Count | None
    eval_interval: Count
    eval_tokens: Count | None
    patience: Count | None
    save: Literal["best", "last"]

    @property
    def flops(self) -> float:
        """FLOPs of the blocks' matrices in the whole training.

        6 for each weight and token (https://arxiv.org/abs/2204.02311, appendix B); a block has
        about 12 d_model² weights.
        """
        tokens = self.max_steps * self.batch_size * self.context_length
        return 6.0 * 12 * self.n_layer * self.d_model**2 * tokens

    def resolve(self) -> "Train":
        """Return the same settings with each null that means "derive it" replaced."""
        return self.model_copy(
            update={
                "n_kv_head": self.n_kv_head or self.n_head,
                "micro_batch_size": self.micro_batch_size or self.batch_size,
                "decay_steps": self.decay_steps or self.max_steps,
            }
        )
