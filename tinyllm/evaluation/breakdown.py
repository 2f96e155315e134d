"""Mean loss of the test tokens by position in the context or document, and by frequency."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tinyllm.data.token_store import Tokens

Row = dict[str, float]
Losses = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

TOKENS_AT_ONCE = 1 << 20  # counted at a time, in 8 bytes each


def positions_in_context(count: int, context_length: int) -> Positions:
    """The number of tokens that the model sees before each of `count` targets, from 1.

    The targets are those of windows that do not overlap. Such a window starts anywhere in a
    document, so the tokens at each of its positions are a fair sample of the test text, and only
    the context differs. In windows that begin with a document, the position would also decide what
    kind of text it is.
    """
    return np.arange(count) % context_length + 1


def positions_in_document(tokens: Tokens, end_of_text: int) -> Positions:
    """The position of each token in its document, from 1; <|endoftext|> is the document's last."""
    positions = np.arange(1, len(tokens) + 1)
    ends = np.flatnonzero(tokens == end_of_text) + 1
    first = np.zeros(len(tokens) + 1, dtype=np.int64)  # where each document begins
    first[ends] = ends
    result: Positions = positions - np.maximum.accumulate(first[:-1])
    return result


def by_position(positions: Positions, losses: Losses) -> list[Row]:
    """Mean loss at each position that occurs."""
    tokens = np.bincount(positions)
    nats = np.bincount(positions, losses)
    return [
        {
            "position": position,
            "tokens": int(tokens[position]),
            "loss": float(nats[position] / tokens[position]),
        }
        for position in np.flatnonzero(tokens).tolist()
    ]


def by_doubling(rows: list[Row]) -> list[Row]:
    """Join the rows of `by_position`: positions 1, 2, 3 to 4, 5 to 8, and so on.

    `sequences` is the number of windows or documents that reach position `first`.
    """
    bins: dict[int, list[Row]] = {}
    for row in rows:
        bins.setdefault((int(row["position"]) - 1).bit_length(), []).append(row)
    joined = []
    for members in bins.values():
        tokens = sum(row["tokens"] for row in members)
        nats = sum(row["tokens"] * row["loss"] for row in members)
        joined.append(
            {
                "first": members[0]["position"],
                "last": members[-1]["position"],
                "sequences": members[0]["tokens"],
                "tokens": tokens,
                "loss": nats / tokens,
            }
        )
    return joined


def count_tokens(tokens: Tokens, vocab_size: int) -> npt.NDArray[np.int64]:
    """The number of times that each id occurs (V,)."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for first in range(0, len(tokens), TOKENS_AT_ONCE):
        counts += np.bincount(tokens[first : first + TOKENS_AT_ONCE], minlength=vocab_size)
    return counts


def by_frequency(
    counts: npt.NDArray[np.int64], targets: Tokens, losses: Losses
) -> Iterator[dict[str, float]]:
    """Yield the mean loss of tokens that are about equally frequent in the training split.

    The classes are: not in the training split, 1 to 9 times, 10 to 99 times, and so on.

    Args:
        counts: of each id in the training split (V,).
        targets, losses: test tokens and their losses in nats (N,).

    Yields:
        For each class with test tokens: the counts in it (`least` to `most`), its number of ids
        and of test tokens, their mean loss, and their share of all tokens and of the total loss.
    """
    powers = 10 ** np.arange(19)
    class_of_id = np.searchsorted(powers, counts, side="right")  # the number of digits
    classes = class_of_id[targets]
    tokens = np.bincount(classes)
    nats = np.bincount(classes, losses)
    for k in np.flatnonzero(tokens).tolist():
        yield {
            "least": int(powers[k - 1]) if k else 0,
            "most": int(powers[k]) - 1 if k else 0,
            "ids": int((class_of_id == k).sum()),
            "tokens": int(tokens[k]),
            "loss": float(nats[k] / tokens[k]),
            "share_of_tokens": float(tokens[k] / tokens.sum()),
            "share_of_loss": float(nats[k] / nats.sum()),
        }
