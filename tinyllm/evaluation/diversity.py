"""How much texts repeat themselves and each other."""

from collections.abc import Iterator, Sequence

Text = Sequence[int]  # token ids


def n_grams(text: Text, n: int) -> Iterator[tuple[int, ...]]:
    """Yield every sequence of n consecutive tokens."""
    return zip(*(text[first:] for first in range(n)), strict=False)


def distinct(texts: Sequence[Text], n: int) -> float:
    """Fraction of different n-grams among all n-grams of the texts (distinct-n).

    It falls with the amount of text, so compare only amounts that are about equal. 0 if there are
    none. Li et al., 2016, https://arxiv.org/abs/1510.03055
    """
    found = [gram for text in texts for gram in n_grams(text, n)]
    return len(set(found)) / max(1, len(found))


def repeated(texts: Sequence[Text], n: int = 4) -> float:
    """Fraction of n-grams that occurred earlier in the same text, as a mean over the texts.

    Texts of fewer than n tokens don't count. 0 if there are no others. Welleck et al., 2020, call
    it seq-rep-n: https://arxiv.org/abs/1908.04319
    """
    grams = [list(n_grams(text, n)) for text in texts if len(text) >= n]
    shares = [1 - len(set(found)) / len(found) for found in grams]
    return sum(shares) / max(1, len(shares))
