"""Signatures estimate how much two texts share; what shares most is found."""

import random

import numpy as np

from tests.helpers import make_documents
from tinyllm.encoding import near
from tinyllm.tokens.split import fold


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
        for place in chance.sample(range(300), changes):
            two[place] = b"other"
        a, b = b" ".join(one), b" ".join(two)
        truth = len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))
        signatures = near.signatures([a, b])
        errors.append((signatures[0] == signatures[1]).mean() - truth)
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.06  # at best sqrt(J (1 - J) / 112), 0.047 at most


def test_a_text_has_the_same_signature_among_any_others() -> None:
    texts = [fold(text) for text in ["one", "two words", *make_documents(50, seed=2), "日本語" * 9]]
    alone = np.concatenate([near.signatures([text]) for text in texts])
    assert np.array_equal(near.signatures(texts), alone)
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
    groups = near.groups(near.signatures([fold(text) for text in documents]))
    assert groups.tolist() == [twins.get(i, i) for i in range(len(documents))]


def test_chains_of_twins_are_one_group() -> None:
    words = [word.encode() for text in make_documents(60, seed=1) for word in text.split()][:400]
    chain = [b" ".join([b"new%d" % i for i in range(10 * n)] + words[10 * n :]) for n in range(30)]
    order = list(range(30))
    random.Random(1).shuffle(order)
    assert set(near.groups(near.signatures([chain[i] for i in order]))) == {0}


def test_scripts_without_spaces_have_near_duplicates_too() -> None:
    chance = random.Random(4)
    one = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(500))
    two = one[:250] + "字" + one[251:]
    other = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(500))
    signatures = near.signatures([text.encode() for text in (one, other, two)])
    assert near.groups(signatures).tolist() == [0, 1, 0]
