"""The shapes of networks and batches to compare, and their options for workers."""

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """Layers, heads, width, tokens per sequence, sequences per batch, vocabulary."""

    n_layer: int
    n_head: int
    d_model: int
    context_length: int
    batch_size: int
    vocab_size: int

    def arguments(self) -> list[str]:
        """The arguments that `parse` accepts."""
        return ["--shape", ",".join(str(number) for number in vars(self).values())]

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.batch_size * self.context_length

    @property
    def flops_a_token(self) -> float:
        """FLOPs of a training step per token, as in https://arxiv.org/abs/2204.02311, appendix B.

        6 per weight of a matrix, and 12 per layer, feature and token of context; this counts the
        masked half of attention.
        """
        C, V = self.d_model, self.vocab_size
        return 6 * (self.n_layer * 12 * C**2 + V * C) + 12 * self.n_layer * C * self.context_length

    def text(self) -> Tensor:
        """Ids to train on (N,); which ones does not affect the time."""
        random = torch.Generator().manual_seed(1)
        return torch.randint(self.vocab_size, (1 << 18,), generator=random)


TRAINING_SHARE = 0.9  # of tinyshakespeare; the rest is held out
CHARACTERS = 65  # different ones in tinyshakespeare
SMALL = Shape(4, 4, 128, 64, 12, CHARACTERS)
WIDE = Shape(6, 6, 384, 256, 16, CHARACTERS)
DEFAULT = Shape(4, 4, 128, 128, 16, 4096)  # of params.yaml


def parser() -> argparse.ArgumentParser:
    """A parser with the options of all workers."""
    options = argparse.ArgumentParser()
    options.add_argument("--shape", type=lambda text: Shape(*map(int, text.split(","))))
    options.add_argument("--steps", type=int, default=20, help="steps per round")
    return options
