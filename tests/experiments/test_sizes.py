"""What a training is expected to give, from trainings of several sizes."""

import pytest

from tinyllm.experiments.sizes import Trained, best_in_as_long, expected, read_sizes


def trained(parameters: int, minutes: float, tokens: int, bits_per_byte: float) -> Trained:
    size = f"{parameters / 1e6:g}"
    return Trained("a corpus", "a machine", size, parameters, minutes, tokens, bits_per_byte)


SMALL = [trained(1_000_000, 1, 1_000_000, 2.0), trained(1_000_000, 10, 10_000_000, 1.0)]
LARGE = [trained(5_000_000, 1, 200_000, 2.5), trained(5_000_000, 10, 2_000_000, 0.9)]


def test_a_score_lies_between_those_of_shorter_and_longer_trainings() -> None:
    for tokens, score in ((1_000_000, 2.0), (3_162_278, 1.5), (10_000_000, 1.0)):
        found = expected(SMALL + LARGE, "a corpus", 1_200_000, tokens)
        assert found is not None and found[0] == pytest.approx(score, abs=1e-6)
        assert found[1].size == "1"


@pytest.mark.parametrize(
    ("corpus", "parameters", "tokens"),
    [("another", 1_000_000, 3_000_000), ("a corpus", 2_200_000, 1_500_000),
     ("a corpus", 1_000_000, 999_999), ("a corpus", 1_000_000, 10_000_001)],
)  # fmt: skip
def test_nothing_is_said_about_what_was_not_measured(
    corpus: str, parameters: int, tokens: int
) -> None:
    assert expected(SMALL + LARGE, corpus, parameters, tokens) is None


def test_the_best_size_is_that_of_trainings_which_took_as_long() -> None:
    assert best_in_as_long(SMALL + LARGE, LARGE[0]).size == "1"
    assert best_in_as_long(SMALL + LARGE, SMALL[1]).size == "5"


def test_the_default_training_is_among_those_measured() -> None:
    measured = {(one.corpus, one.size) for one in read_sizes()}
    assert ("pandas==3.1.1", "1.8") in measured
