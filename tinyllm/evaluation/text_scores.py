"""Scores of any text under a model, in parts: the whole, its documents or its lines.

Tokens, windows and formula are those of the test split (`tinyllm.evaluation.final_scores`): each
document is followed by <|endoftext|>, which is scored too, and the text before a token is its
context, also that of earlier lines and documents. So the parts add up to the whole. A token that
lies in two lines counts for both, in proportion to its bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinyllm.data.readers.documents import separated
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.scores import Scores, make_windows, predict
from tinyllm.models.model import Model

PARTS = ("all", "document", "line")
Kind = Literal["all", "document", "line"]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A part of a text, and its scores.

    Attributes:
        number: counts from 1.
        surprise: bits of the token that each byte belongs to (bytes,).
        tokens: number of scored tokens; not whole for a line that shares a token.
    """

    number: int
    text: str
    surprise: Values
    tokens: float
    scores: Scores

    @property
    def n_bytes(self) -> int:
        """Size of the text in UTF-8."""
        return len(self.surprise)

    def as_dict(self) -> dict[str, Any]:
        """The numbers by name."""
        return {"bytes": self.n_bytes, "tokens": round(self.tokens, 3), **self.scores.as_dict()}


def documents_of(text: str, separator: str | None) -> list[str]:
    """Cut a text into documents as `download` does; those of white space only are skipped.

    Args:
        separator: the text between two documents; None if the text is one document.
    """
    if separator is None:
        return [text] if text else []
    documents, held = [], ""
    for part, ends in separated([text], separator):
        held += part
        if ends:
            documents.append(held)
            held = ""
    return [document for document in documents if document and not document.isspace()]


def score_text(
    model: Model,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    by: Kind,
    *,
    stride: int | None = None,
    batch_size: int | None = None,
) -> list[Part]:
    """Score documents; none of them is empty.

    Args:
        by: the parts to score.
        stride, batch_size: as for `make_windows` and `predict`.
    """
    tokens = tokenizer.encode_documents(documents)
    sizes, end = tokenizer.token_bytes(), tokenizer.end_of_text
    windows = make_windows(tokens, sizes, end, model.config.context_length, stride=stride)
    predictions = predict(model, windows, batch_size)
    surprise = np.repeat(predictions.losses.double().numpy() / np.log(2), sizes[tokens])
    if by == "all":
        scores = predictions.scores(windows.n_bytes)
        return [Part(1, "".join(documents), surprise, len(tokens), scores)]
    losses = predictions.losses.double().numpy()
    per_token = np.stack([losses, predictions.right.double().numpy(), np.ones_like(losses)])
    sizes = sizes[tokens]
    per_byte = np.repeat(per_token / np.maximum(sizes, 1), sizes, axis=1)  # (3, bytes)
    per_byte[:, _ends(documents)] += per_token[:, tokens == end]  # to the last byte of a document
    texts = documents if by == "document" else _lines(documents)
    cuts = np.cumsum([len(text.encode()) for text in texts])
    assert cuts[-1] == per_byte.shape[1] == windows.n_bytes
    sums = np.add.reduceat(per_byte, [0, *cuts[:-1]], axis=1)  # (3, parts)
    parts = zip(texts, np.split(surprise, cuts[:-1]), sums.T, strict=True)
    return [
        Part(number, text, bits, float(count), Scores.of(len(bits), nats, right, count))
        for number, (text, bits, (nats, right, count)) in enumerate(parts, 1)
    ]


def _ends(documents: Sequence[str]) -> npt.NDArray[np.int64]:
    """The last byte of each document, in all their bytes."""
    return np.cumsum([len(document.encode()) for document in documents]) - 1


def _lines(documents: Sequence[str]) -> list[str]:
    """The lines of documents; each ends with its line feed or its document."""
    found = []
    for document in documents:
        *ended, last = document.split("\n")
        found += [f"{line}\n" for line in ended]
        if last:
            found.append(last)
    return found
