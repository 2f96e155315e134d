"""The interval of a paired comparison contains the true difference as often as it says."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from tinyllm.evaluation.paired import _student_quantile, paired_difference

Losses = npt.NDArray[np.float64]


def test_known_answer_of_equal_documents() -> None:
    """With documents of equal length it is the t interval of their means."""
    many = np.tile([0.1, -0.3, 0.2, 0.4], 20)  # of each document
    tokens = np.repeat(many, 3) + np.tile([0.01, -0.02, 0.01], 80)  # which adds nothing to a sum
    found = paired_difference(2 + tokens, np.full(240, 2.0), [3] * 80)
    assert found.clusters == 80
    assert found.mean == pytest.approx(0.1)
    error = many.std(ddof=1) / math.sqrt(80)
    assert (found.high - found.low) / 2 == pytest.approx(1.99045 * error, rel=1e-4)
    assert found.is_beyond_chance == (1.99045 * error < 0.1)


def test_documents_are_cut_only_if_they_are_few() -> None:
    losses = np.arange(6000.0)
    lengths = [300] * 10 + [30] * 100  # as 60 of equal length
    assert paired_difference(losses, losses, lengths).clusters == 110
    lengths = [3000] + [30] * 100  # as 4
    assert paired_difference(losses, losses, lengths).clusters == 130


def test_the_same_losses_do_not_differ() -> None:
    losses = np.random.default_rng(0).exponential(2.0, 1000).astype(np.float32)
    found = paired_difference(losses, losses, [100] * 10)
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert not found.is_beyond_chance


def test_a_small_difference_between_similar_models_is_found() -> None:
    """An unpaired comparison of the same losses would find nothing."""
    draw = np.random.default_rng(1)
    hard = draw.exponential(2.5, 20_000)
    better = hard - 0.01 + draw.normal(0, 0.1, len(hard))
    found = paired_difference(better, hard, [100] * 200)
    assert found.is_beyond_chance and found.mean == pytest.approx(-0.01, abs=0.002)
    assert hard.std() * math.sqrt(2 / len(hard)) * 1.96 > 0.03
    swapped = paired_difference(hard, better, [100] * 200)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    bits = found.times(0.5)
    assert (bits.mean, bits.low, bits.high) == (found.mean / 2, found.low / 2, found.high / 2)


def correlated(draw: np.random.Generator, lengths: list[int], within: float) -> Losses:
    """Differences with mean 0 of which a share is common to all tokens of a document."""
    common = np.repeat(draw.normal(0, math.sqrt(within), len(lengths)), lengths)
    return common + draw.normal(0, math.sqrt(1 - within), sum(lengths))


def coverage(samples: list[tuple[Losses, list[int]]]) -> float:
    """The fraction of intervals that contain 0, the true difference."""
    found = [paired_difference(each, np.zeros_like(each), lengths) for each, lengths in samples]
    return 1 - float(np.mean([each.is_beyond_chance for each in found]))


@pytest.mark.parametrize("within", [0.0, 0.1, 0.5])
def test_coverage_with_correlated_tokens(within: float) -> None:
    """2,000 intervals: 95 % of them contain 0, up to a chance of 1 percentage point (2 sigma)."""
    draw = np.random.default_rng(2)
    samples = []
    for _ in range(2000):
        lengths = (10 + draw.exponential(30, 100)).astype(int).tolist()
        samples.append((correlated(draw, lengths, within), lengths))
    assert coverage(samples) == pytest.approx(0.95, abs=0.013)
    if within == 0.5:  # what counting tokens as independent would give
        alone = [(each, [1] * len(each)) for each, _ in samples]
        assert coverage(alone) < 0.6


def test_coverage_with_a_few_long_documents() -> None:
    """They are cut into blocks; neighbouring tokens are correlated."""
    draw = np.random.default_rng(3)
    samples = []
    for _ in range(1000):
        noise = draw.normal(0, 1, 12_000)
        moving = np.convolve(noise, np.ones(10) / 10, mode="valid")  # over 10 tokens
        samples.append((moving, [4000, 4000, len(moving) - 8000]))
    assert coverage(samples) == pytest.approx(0.95, abs=0.02)
    alone = [(each, [1] * len(each)) for each, _ in samples]
    assert coverage(alone) < 0.6


def test_blocks_of_a_long_document_have_equal_lengths() -> None:
    found = paired_difference(np.arange(6000.0), np.zeros(6000), [5950, 50])
    assert found.clusters == 60 + 1  # of 100 tokens at most
    assert paired_difference(np.arange(6000.0), np.zeros(6000), [100] * 60).clusters == 60
    assert paired_difference(np.arange(6000.0), np.zeros(6000), [0, 6000, 0]).clusters == 60


@pytest.mark.parametrize(
    ("first", "second", "lengths", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], [2], "different tokens"),
        ([1.0, 2.0], [1.0, 2.0], [3], "different tokens"),
        ([[1.0, 2.0]], [[1.0, 2.0]], [2], "different tokens"),
        ([1.0, math.nan], [1.0, 2.0], [2], "finite"),
        ([1.0, 2.0], [1.0, math.inf], [2], "finite"),
        ([1.0], [2.0], [1], "two tokens"),
        ([], [], [], "two tokens"),
    ],
)
def test_losses_that_cannot_be_compared(
    first: list[float], second: list[float], lengths: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(np.array(first), np.array(second), lengths)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(5, 2.57058), (10, 2.22814), (29, 2.04523), (59, 2.00100), (1000, 1.96234)],
)
def test_quantiles_of_students_t(degrees: int, expected: float) -> None:
    assert _student_quantile(0.975, degrees) == pytest.approx(expected, rel=1e-3)
