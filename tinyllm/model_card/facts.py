"""What `train` and `evaluate` know of a model; `training.json` has what `train` knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.common.files import checked, read_json

FACTS = "training.json"


@dataclass(frozen=True)
class Training:
    """What `train` knows of the model that it made: the same for the same inputs.

    Attributes:
        parameters: number of weights.
        settings: section `train` of params.yaml, without nulls that mean "derive it".
        precision: of products and activations, "fp32" or "bf16".
        tokenizer: name of the encoding.
        vocab_size: its ids.
        text: "source" and "licence" of the corpus; None if not recorded.
        splits: "documents", "tokens", "bytes" and "sha256" of each split.
        steps: optimizer steps.
        saved_step: the step whose weights are saved.
        validation: scores of these weights on the validation split.
    """

    parameters: int
    seed: int
    settings: dict[str, Any]
    precision: str
    tokenizer: str
    vocab_size: int
    text: dict[str, str | None] | None
    splits: dict[str, dict[str, Any]]
    steps: int
    saved_step: int
    validation: dict[str, float]

    @property
    def name(self) -> str:
        """A name like tinyllm-1.3M."""
        return f"tinyllm-{in_words(self.parameters, short=True)}"

    @property
    def source(self) -> str:
        """Where the text comes from."""
        return (self.text and self.text["source"]) or "a text whose source is not recorded"

    @property
    def licence(self) -> str | None:
        """The licence of the text, as stated."""
        return self.text["licence"] if self.text else None

    @property
    def tokens_seen(self) -> int:
        """Tokens in all batches."""
        return self.steps * int(self.settings["batch_size"] * self.settings["context_length"])


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` knows of a model.

    Attributes:
        weights_sha256: of the weights that were evaluated.
        scores: on the test split: "bits_per_byte", "loss", "perplexity", "accuracy".
        baselines: bits per byte of the same text, by name.
        context: tokens before each scored token that the model saw at least.
        samples: prompts and their continuations.
        sampling: how these were drawn, in words.
        pictures: paths relative to the card, by description.
    """

    weights_sha256: str
    scores: dict[str, float]
    baselines: dict[str, float]
    context: int
    samples: Sequence[tuple[str, str]] = ()
    sampling: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)


def read_facts(folder: Path) -> Training:
    """Read the training.json of a model folder.

    Raises:
        ValueError: it is missing or corrupt.
    """
    return Training(**read_json(checked(folder, FACTS)))


def in_words(count: int, short: bool = False) -> str:
    """A number with two or three digits, like "1.32 million" or "1.3M"."""
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= size:
            value = count / size
            return f"{value:.{value < 10:d}f}{word[0].upper()}" if short else f"{value:.3g} {word}"
    return str(count)
