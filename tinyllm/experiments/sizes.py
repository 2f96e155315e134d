"""What models of several sizes learned in so many minutes (docs/sizes.md), and what to expect.

`python -m benchmarks.sizes` measures it.
"""

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tinyllm.data.sources.catalogue import PACKAGES
from tinyllm.settings.download import Download

RESULTS = Path(__file__).with_name("sizes.json")
ALIKE = 1.5  # ratio of the parameters of two models of one size, at most


@dataclass(frozen=True)
class Trained:
    """A training of params.yaml's recipe at another size.

    Attributes:
        corpus: as named by `corpus_name`.
        machine: the processor and its cores.
        size: name of the size, in millions of parameters.
        parameters: number of trained parameters.
        minutes: of training on that machine.
        tokens: read in training.
        bits_per_byte: of the test split.
    """

    corpus: str
    machine: str
    size: str
    parameters: int
    minutes: float
    tokens: int
    bits_per_byte: float

    @property
    def key(self) -> tuple[str, int, float]:
        """What another measurement replaces."""
        return self.corpus, self.parameters, self.minutes


def corpus_name(settings: Download) -> str:
    """The name of a corpus in the measurements."""
    return ", ".join(settings.packages) if settings.source == PACKAGES else settings.source


def read_sizes() -> list[Trained]:
    """The measurements, sorted by corpus, size and minutes."""
    return [Trained(**one) for one in json.loads(RESULTS.read_text(encoding="utf-8"))]


def expected(
    results: list[Trained], corpus: str, parameters: int, tokens: int
) -> tuple[float, Trained] | None:
    """What a training gives, from those of models of about that size on the same corpus.

    Returns:
        Bits per byte of the test split, by a straight line over the logarithm of the tokens, and
        the training of them that is next longer. None outside what was measured.
    """
    alike = [
        one
        for one in results
        if one.corpus == corpus and abs(math.log(one.parameters / parameters)) < math.log(ALIKE)
    ]
    for before, after in pairwise(sorted(alike, key=lambda one: one.tokens)):
        if before.tokens <= tokens <= after.tokens:
            part = math.log(tokens / before.tokens) / math.log(after.tokens / before.tokens)
            difference = after.bits_per_byte - before.bits_per_byte
            return before.bits_per_byte + part * difference, after
    return None


def best_in_as_long(results: list[Trained], one: Trained) -> Trained:
    """The training with the lowest score of those on the same corpus for the same minutes."""
    as_long = [each for each in results if each.key[::2] == one.key[::2]]
    return min(as_long, key=lambda each: each.bits_per_byte)
