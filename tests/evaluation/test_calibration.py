"""The expected calibration error, against a reference and known probabilities."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.helpers import markov_tokens, random_model, windows_of
from tinyllm.evaluation.calibration import BINS, calibration
from tinyllm.evaluation.scores import Predictions, predict


def predictions_of(confidences: Tensor, right: Tensor) -> Predictions:
    return Predictions(torch.zeros(len(right)), right, confidences.float())


def reference(confidences: Tensor, right: Tensor) -> float:
    """The error as Guo et al. wrote their code: a mask for each bin."""
    error = torch.zeros(())
    edges = torch.linspace(0, 1, 16)
    for low, high in pairwise(edges):
        inside = confidences.gt(low) & confidences.le(high)
        if inside.any():
            distance = confidences[inside].mean() - right[inside].float().mean()
            error += distance.abs() * inside.float().mean()
    return error.item()


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_the_error_equals_the_reference(power: float) -> None:
    chance = torch.Generator().manual_seed(1)
    confidences = torch.rand(20_000, generator=chance) ** power
    right = torch.rand(20_000, generator=chance) < confidences**1.5
    found = calibration(predictions_of(confidences, right))
    assert found.error == pytest.approx(reference(confidences, right), abs=1e-6)
    assert found.confidence == pytest.approx(confidences.mean().item())
    assert found.accuracy == pytest.approx(right.float().mean().item())


def test_a_hand_calculation() -> None:
    confidences = torch.tensor([0.9, 0.9, 0.9, 0.5, 0.5])
    right = torch.tensor([True, True, False, True, False])
    found = calibration(predictions_of(confidences, right))
    assert found.error == pytest.approx(3 / 5 * abs(2 / 3 - 0.9))
    low, high = found.bins
    assert (low["tokens"], high["tokens"]) == (2, 3)
    assert (low["accuracy"], high["accuracy"]) == pytest.approx((1 / 2, 2 / 3))
    assert low["low"] < 0.5 <= low["high"] and high["low"] < 0.9 <= high["high"]


def test_probabilities_that_are_right_have_no_error() -> None:
    """Each bin has one confidence, and exactly that share of its tokens is right."""
    confidences = torch.arange(1, 11).repeat_interleave(10) / 10
    right = torch.arange(10).repeat(10) < torch.arange(1, 11).repeat_interleave(10)
    found = calibration(predictions_of(confidences, right))
    assert found.error == pytest.approx(0, abs=1e-7)
    assert len(found.bins) <= BINS
    always = calibration(predictions_of(torch.ones(8), torch.zeros(8, dtype=torch.bool)))
    assert always.error == 1


@pytest.mark.usefixtures("arithmetic")
def test_the_confidence_is_the_probability_of_the_most_likely_token() -> None:
    model = random_model()
    tokens = markov_tokens(160)
    found = predict(model, windows_of(tokens), batch_size=2)
    stream = torch.from_numpy(np.concatenate([[60], tokens]).astype(np.int64))
    with torch.no_grad():
        logits = model.eval()(stream[:-1].view(-1, 16)).double().flatten(0, 1)
    rounding = 1e-5 if found.losses.dtype == logits.dtype else 2e-2
    expected = F.softmax(logits, dim=-1).amax(dim=-1)
    assert torch.allclose(found.confidences.double(), expected, atol=rounding)
    # A token that is right has that probability itself.
    assert torch.equal(found.confidences[found.right], (-found.losses).exp()[found.right])
