"""The shapes of networks and batches that are compared, as every worker takes them."""

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """Layers, heads, width, tokens in a sequence, sequences in a batch, vocabulary."""

    n_layer: int
    n_head: int
    d_model: int
    context_length: int
    batch_size: int
    vocab_size: int

    def arguments(self) -> list[str]:
        """What `parse` takes."""
        return ["--shape", ",".join(str(number) for number in vars(self).values())]

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.batch_size * self.context_length

    def text(self) -> Tensor:
        """Ids to train on (N,): which ones does not change how long it takes."""
        random = torch.Generator().manual_seed(1)
        return torch.randint(self.vocab_size, (1 << 18,), generator=random)


CHARACTERS = 65  # different ones in tinyshakespeare
SMALL = Shape(4, 4, 128, 64, 12, CHARACTERS)
WIDE = Shape(6, 6, 384, 256, 16, CHARACTERS)
DEFAULT = Shape(4, 4, 128, 128, 8, 2048)  # of params.yaml


def parser() -> argparse.ArgumentParser:
    """Options that all workers have."""
    options = argparse.ArgumentParser()
    options.add_argument("--shape", type=lambda text: Shape(*map(int, text.split(","))))
    options.add_argument("--steps", type=int, default=20, help="in a round")
    return options
