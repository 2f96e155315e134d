"""Signatures estimate the similarity of texts, and near-duplicates are found."""

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers import make_documents
from tinyllm.data.split_rule import fold
from tinyllm.data.tokenize import near_duplicates


def shingles(text: bytes) -> set[bytes]:
    words = text.split()
    return {b" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def test_signatures_estimate_the_similarity() -> None:
    chance = random.Random(1)
    words = [word.encode() for text in make_documents(200, seed=1) for word in text.split()]
    errors = []
    for changes in range(1, 120):
        one = chance.choices(words, k=300)
        two = list(one)
        for index in chance.sample(range(300), changes):
            two[index] = b"other"
        a, b = b" ".join(one), b" ".join(two)
        truth = len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))
        signatures = near_duplicates.signatures([a, b])
        errors.append((signatures[0] == signatures[1]).mean() - truth)
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.06  # at best sqrt(J (1 - J) / 112), 0.047 at most


def test_a_signature_does_not_depend_on_other_texts() -> None:
    texts = [fold(text) for text in ["one", "two words", *make_documents(50, seed=2), "日本語" * 9]]
    alone = np.concatenate([near_duplicates.signatures([text]) for text in texts])
    assert np.array_equal(near_duplicates.signatures(texts), alone)
    assert len({row.tobytes() for row in alone}) == len(texts)


def test_near_duplicates_form_groups() -> None:
    chance = random.Random(3)
    documents = ["\n".join(make_documents(8, seed=seed)) for seed in range(300)]
    twins: dict[int, int] = {}
    for original in chance.sample(range(300), 60):
        words = documents[original].split(" ")
        words[chance.randrange(len(words))] = "changed"
        twins[len(documents)] = original
        documents.append(" ".join(words))
    groups = near_duplicates.groups(near_duplicates.signatures([fold(text) for text in documents]))
    assert groups.tolist() == [twins.get(i, i) for i in range(len(documents))]


def test_chains_of_near_duplicates_are_one_group() -> None:
    words = [word.encode() for text in make_documents(60, seed=1) for word in text.split()][:400]
    chain = [b" ".join([b"new%d" % i for i in range(10 * n)] + words[10 * n :]) for n in range(30)]
    order = list(range(30))
    random.Random(1).shuffle(order)
    assert set(near_duplicates.groups(near_duplicates.signatures([chain[i] for i in order]))) == {0}


def test_scripts_without_spaces_have_near_duplicates_too() -> None:
    chance = random.Random(4)
    one = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(500))
    two = one[:250] + "字" + one[251:]
    other = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(500))
    signatures = near_duplicates.signatures([text.encode() for text in (one, other, two)])
    assert near_duplicates.groups(signatures).tolist() == [0, 1, 0]


# ----- constructed signatures


def unlike(count: int, seed: int = 1) -> near_duplicates.Signatures:
    """Make signatures of documents that share nothing but band 0."""
    found = np.random.default_rng(seed).integers(
        0, 1 << 16, (count, near_duplicates.BANDS * near_duplicates.ROWS), dtype=np.uint16
    )
    found[:, : near_duplicates.ROWS] = 7
    return found


def twin_of(signature: npt.NDArray[np.uint16], at: int = 0) -> npt.NDArray[np.uint16]:
    """Make a near-duplicate's signature: three quarters are equal, but only band 0 of the bands."""
    twin = signature.reshape(near_duplicates.BANDS, near_duplicates.ROWS).copy()
    twin[1:, at : at + 2] += 1
    return twin.reshape(-1)


def every_pair(found: near_duplicates.Signatures) -> list[int]:
    """Return what `groups` must find, by comparing all pairs."""
    group = list(range(len(found)))
    bands = found.reshape(len(found), near_duplicates.BANDS, near_duplicates.ROWS)
    for a in range(len(found)):
        for b in range(a):
            shared = (bands[a] == bands[b]).all(axis=1).any()
            if shared and (found[a] == found[b]).mean() >= near_duplicates.ALIKE:
                old, new = max(group[a], group[b]), min(group[a], group[b])
                group = [new if number == old else number for number in group]
    return group


@pytest.mark.parametrize(("equal", "groups"), [(78, [0, 1]), (79, [0, 0])])
def test_the_lowest_similarity_of_near_duplicates_is_seven_tenths(
    equal: int, groups: list[int]
) -> None:
    found = unlike(2)
    found[1, :equal] = found[0, :equal]
    assert (found[0] == found[1]).mean() == pytest.approx(equal / 112)
    assert near_duplicates.groups(found).tolist() == groups


@pytest.mark.parametrize(
    "between", [1, near_duplicates.NEXT - 1, near_duplicates.NEXT, 10 * near_duplicates.NEXT]
)
def test_documents_between_two_near_duplicates_do_not_hide_them(between: int) -> None:
    one, other = unlike(2)
    twin = twin_of(one)
    assert near_duplicates.groups(np.stack([one, twin])).tolist() == [0, 0]
    found = np.stack([one, *[other] * between, twin])
    assert near_duplicates.groups(found).tolist() == [0, *[1] * between, 0]
    # The documents between resemble the first, but not the last.
    found[1:-1] = twin_of(one, at=6)
    assert set(near_duplicates.groups(found)) == {0}


@pytest.mark.parametrize("count", [12, near_duplicates.NEXT + 1, near_duplicates.NEXT + 2, 90])
def test_near_duplicates_are_those_of_comparing_all_pairs(count: int) -> None:
    """Any documents of a band up to NEXT + 1; of larger ones, if few are not near-duplicates."""
    chance = np.random.default_rng(count)
    for _ in range(5):
        found = unlike(count)
        families = np.minimum(chance.integers(0, 40, count), chance.integers(0, 40, count))
        for number, family in enumerate(families):
            differs = chance.random(found.shape[1]) < chance.choice([0.02, 0.18])
            differs[: near_duplicates.ROWS] = False
            origin = unlike(1, seed=int(family))[0]
            found[number, ~differs] = origin[~differs]
        assert near_duplicates.groups(found).tolist() == every_pair(found)


def test_a_few_others_are_found_among_the_many_of_a_template() -> None:
    """Boilerplate: one group is nearly all of a band; near-duplicates of another are far apart."""
    found = unlike(3000)
    found[:, 8:] = found[0, 8:]
    first, second = 100, 2900
    found[first] = unlike(1, seed=2)[0]
    found[second] = twin_of(found[first])
    groups = near_duplicates.groups(found)
    assert groups[[first, second]].tolist() == [first, first]
    assert np.count_nonzero(groups) == 2


def test_a_band_that_all_share_does_not_compare_all_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared, alike = 0, near_duplicates._alike

    def counted(
        found: near_duplicates.Signatures, a: near_duplicates.Numbers, b: near_duplicates.Numbers
    ) -> Any:
        nonlocal compared
        compared += len(a)
        return alike(found, a, b)

    monkeypatch.setattr(near_duplicates, "_alike", counted)
    count = 2000
    assert near_duplicates.groups(unlike(count)).tolist() == list(range(count))
    assert compared < (near_duplicates.NEXT + near_duplicates.PIVOTS) * count
    compared = 0
    assert set(near_duplicates.groups(np.zeros((count, 112), dtype=np.uint16))) == {0}
    assert compared < count  # the other bands are one group, with nothing to compare
