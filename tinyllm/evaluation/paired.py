"""Whether one model is better than another: a paired comparison of their losses on the same tokens.

Both models find the same tokens hard, so the difference of their losses varies far less than the
losses do. Tokens of one document are not independent: a model that is better at the first half of
a document is likely better at its second half. So the unit of the comparison is the document.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
FEWEST = 30  # documents of equal length; with fewer, long documents are cut into blocks
LONGEST = 1 / 60  # length of a block, as a share of all tokens


@dataclass(frozen=True)
class PairedDifference:
    """The mean difference of two models' losses, the first's minus the second's.

    Attributes:
        mean: in nats per token; negative if the first model is better.
        low, high: the 95 % confidence interval of the mean.
        clusters: number of documents, or of blocks of long documents, that were compared.
    """

    mean: float
    low: float
    high: float
    clusters: int

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def times(self, factor: float) -> "PairedDifference":
        """The same in another unit, like bits per byte."""
        low, high = sorted((self.low * factor, self.high * factor))
        return PairedDifference(self.mean * factor, low, high, self.clusters)


def paired_difference(
    first: npt.NDArray[np.floating], second: npt.NDArray[np.floating], lengths: npt.ArrayLike
) -> PairedDifference:
    """Compare two models' losses token by token.

    The interval is that of the jackknife over documents with Student's t distribution. It draws no
    random numbers. If there are few documents, long ones are cut into blocks: then the interval
    covers other text of the same documents, but not other documents.

    Args:
        first, second: loss of each test token in nats (N,), in the same order.
        lengths: tokens of each document in that order (D,); their sum is N.

    Raises:
        ValueError: the sizes differ, there are fewer than two tokens, or a loss is not finite.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    sizes = np.asarray(lengths, dtype=np.int64)
    sizes = sizes[sizes > 0]
    if first.ndim != 1 or first.shape != second.shape or sizes.sum() != len(first):
        raise ValueError(
            f"losses of different tokens: {first.shape} and {second.shape}, in documents of "
            f"{sizes.sum():,} tokens"
        )
    if len(first) < 2 or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("losses must be finite numbers, of two tokens at least")
    if _equal_documents(sizes) < FEWEST:
        sizes = _cut(sizes, max(1, math.floor(len(first) * LONGEST)))
    difference = first - second
    sums = np.add.reduceat(difference, np.cumsum(sizes) - sizes)  # (C,)
    mean, count, total = difference.mean(), len(sizes), len(first)
    without = (sums.sum() - sums) / (total - sizes)  # the mean without each document
    error = math.sqrt((count - 1) / count * ((without - mean) ** 2).sum())
    degrees = max(1.0, _equal_documents(sizes) - 1)
    margin = _student_quantile(0.5 + CONFIDENCE / 2, degrees) * error
    return PairedDifference(float(mean), float(mean - margin), float(mean + margin), count)


def _equal_documents(sizes: npt.NDArray[np.int64]) -> float:
    """The number of documents of equal length whose mean varies as much as that of these."""
    return float(sizes.sum() ** 2 / (sizes.astype(np.float64) ** 2).sum())


def _cut(sizes: npt.NDArray[np.int64], longest: int) -> npt.NDArray[np.int64]:
    """Cut documents into blocks of almost equal length, each of at most `longest` tokens."""
    blocks = -(-sizes // longest)  # of each document
    base, extra = np.repeat(sizes // blocks, blocks), np.repeat(sizes % blocks, blocks)
    number = np.arange(len(base)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    return base + (number < extra)


def _student_quantile(p: float, degrees: float) -> float:
    """A quantile of Student's t distribution: Abramowitz and Stegun, 26.7.5.

    Within 0.1 % from 5 degrees of freedom on, at p = 0.975.
    """
    x = NormalDist().inv_cdf(p)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / degrees**power for power, term in enumerate(terms, 1))
