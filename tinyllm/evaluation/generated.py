"""Text that a model generates, beside real text of the same length: diversity and memorisation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.compute import generator
from tinyllm.data.token_store import Tokens
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.diversity import distinct, repeated
from tinyllm.evaluation.memorisation import Match, find_verbatim
from tinyllm.generation.network import Network
from tinyllm.generation.sampling import Sampling, write

Texts = list[list[int]]  # token ids, without <|endoftext|>

AT_ONCE = 64  # documents generated at once
LONGEST_N = 4  # of the n-grams whose diversity is measured


@dataclass(frozen=True)
class TextStatistics:
    """What some texts are like.

    Attributes:
        texts, tokens, characters: how many there are.
        ended: fraction of the texts that end by themselves, before the largest number of tokens.
        distinct: fraction of different n-grams of tokens among all, for n from 1 to LONGEST_N.
        repeated: fraction of a text's 4-grams that occurred earlier in it; mean over the texts.
        verbatim: fraction of the characters in runs that occur verbatim in the training split.
        longest: the longest such run.
    """

    texts: int
    tokens: int
    characters: int
    ended: float
    distinct: list[float]
    repeated: float
    verbatim: float
    longest: Match


def write_documents(
    network: Network, sampling: Sampling, count: int, end_of_text: int, seed: int
) -> Texts:
    """Generate documents from an empty prompt; the same ones every time.

    As in training, a document follows the end of another.
    """
    documents: Texts = []
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        generators = [generator(seed, f"document {number}") for number in numbers]
        prompts = [[end_of_text]] * len(numbers)
        documents += write(network, prompts, sampling, generators, stop=end_of_text)
    return documents


def real_texts(test: Tokens, end_of_text: int, lengths: Sequence[int]) -> Texts:
    """The beginnings of test documents, with the given numbers of tokens.

    Each is from a document that is at least as long; the documents are spread evenly over those. If
    none is long enough, it is the longest document.
    """
    ends = np.flatnonzero(test == end_of_text)
    sizes = np.diff(ends, prepend=-1) - 1
    texts = []
    for number, length in enumerate(lengths):
        length = min(length, int(sizes.max()))
        enough = np.flatnonzero(sizes >= length)
        chosen = enough[number * len(enough) // len(lengths)]
        begin = ends[chosen] - sizes[chosen]
        texts.append(test[begin : begin + length].tolist())
    return texts


def ended_documents(test: Tokens, end_of_text: int, max_tokens: int) -> float:
    """Fraction of the test documents that end before `max_tokens` tokens."""
    sizes = np.diff(np.flatnonzero(test == end_of_text), prepend=-1) - 1
    return float((sizes < max_tokens).mean())


def text_statistics(
    groups: Sequence[tuple[Texts, float]], train: Tokens, tokenizer: Tokenizer
) -> list[TextStatistics]:
    """Measure some groups of texts, given the fraction of each group that ended by itself."""
    decoded = [[tokenizer.decode(text) for text in texts] for texts, _ in groups]
    return [
        TextStatistics(
            texts=len(texts),
            tokens=sum(map(len, texts)),
            characters=sum(found.characters),
            ended=ended,
            distinct=[distinct(texts, n) for n in range(1, LONGEST_N + 1)],
            repeated=repeated(texts),
            verbatim=found.share,
            longest=found.longest,
        )
        for (texts, ended), found in zip(
            groups, find_verbatim(decoded, train, tokenizer), strict=True
        )
    ]
