"""Calibration: whether a model is right as often as its probabilities say.

Guo et al., 2017, "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599
"""

from dataclasses import dataclass

import numpy as np

from tinyllm.evaluation.scores import Predictions

BINS = 15  # of equal width, as in the paper


@dataclass(frozen=True)
class Calibration:
    """How the probability of the most likely token relates to how often it is right.

    Attributes:
        error: expected calibration error: mean over the tokens of the distance between the
            accuracy and the mean confidence of their bin, from 0 to 1.
        confidence: mean probability of the most likely token.
        accuracy: fraction of the tokens that were the most likely one.
        bins: for each bin with tokens: the confidences that it contains (above `low`, up to
            `high`), its number of tokens, their mean confidence and their accuracy.
    """

    error: float
    confidence: float
    accuracy: float
    bins: list[dict[str, float]]


def calibration(predictions: Predictions) -> Calibration:
    """Compare confidence and accuracy over all predicted tokens."""
    confidences = predictions.confidences.double().numpy()
    right = predictions.right.numpy()
    edges = np.linspace(0, 1, BINS + 1)
    bin_of = np.digitize(confidences, edges[1:-1], right=True)  # (N,), 0 to BINS - 1
    tokens = np.bincount(bin_of, minlength=BINS)
    confidence = np.bincount(bin_of, confidences, minlength=BINS)
    accuracy = np.bincount(bin_of, right, minlength=BINS)
    return Calibration(
        error=float(np.abs(accuracy - confidence).sum() / len(right)),
        confidence=float(confidences.mean()),
        accuracy=float(right.mean()),
        bins=[
            {
                "low": float(edges[b]),
                "high": float(edges[b + 1]),
                "tokens": int(tokens[b]),
                "confidence": float(confidence[b] / tokens[b]),
                "accuracy": float(accuracy[b] / tokens[b]),
            }
            for b in np.flatnonzero(tokens).tolist()
        ],
    )
