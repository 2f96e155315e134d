"""Attention that does not cross documents, in training, scoring and generation."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers import (
    Arithmetic,
    assert_same_weights,
    generator,
    make_documents,
    random_ids,
    random_model,
    tiny_config,
)
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.scores import make_windows, predict
from tinyllm.generation.network import Recomputing, for_inference
from tinyllm.generation.sampling import Sampling, write
from tinyllm.models.folder import load_network, save_model
from tinyllm.models.model import Model

pytestmark = pytest.mark.usefixtures("arithmetic", "architecture")
END = 60
LENGTHS = [16, 600]  # attention is computed in two ways


def masked(length: int = 16, **changes: int) -> Model:
    return random_model(tiny_config(context_length=length, document_end=END, **changes))


def documents(length: int, seed: int = 0) -> tuple[Tensor, int]:
    """Ids (2, length) of three documents, each after an END, and where the last one starts."""
    ids = random_ids(2, length, seed=seed, vocab_size=END)
    third = 2 * length // 3
    ids[:, [0, length // 3, third]] = END
    return ids, third


def near(found: Tensor, expected: Tensor, arithmetic: Arithmetic) -> bool:
    return bool((found - expected).norm() < arithmetic.rounding * expected.norm())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("shape", [{}, {"n_head": 4, "n_kv_head": 2}])
@torch.no_grad()
def test_a_document_gets_the_logits_that_it_has_alone(
    length: int, shape: dict[str, int], arithmetic: Arithmetic
) -> None:
    model = masked(length, **shape)
    ids, start = documents(length)
    assert near(model(ids)[:, start:], model(ids[:, start:]), arithmetic)


@pytest.mark.parametrize("length", LENGTHS)
@torch.no_grad()
def test_only_tokens_of_the_same_document_are_seen(length: int) -> None:
    model = masked(length)
    ids, start = documents(length)
    before = model(ids)
    for place in range(0, length, max(1, length // 16)):
        changed = ids.clone()
        if ids[0, place] == END:
            continue
        changed[:, place] = (changed[:, place] + 1) % END
        after = model(changed)
        assert torch.equal(after[:, start:], before[:, start:]) == (place < start)


@torch.no_grad()
def test_without_the_setting_earlier_documents_are_seen() -> None:
    model = random_model()
    ids, start = documents(16)
    assert not torch.equal(model(ids)[:, start:], model(documents(16, seed=1)[0])[:, start:])


@torch.no_grad()
def test_text_of_one_document_is_unaffected(arithmetic: Arithmetic) -> None:
    model, plain = masked(), random_model()
    assert_same_weights(model, plain)
    ids = random_ids(2, 16, vocab_size=END)
    ids[:, 0] = END
    assert near(model(ids), plain(ids), arithmetic)


def test_the_gradient_is_that_of_the_documents_alone(arithmetic: Arithmetic) -> None:
    def gradient(*parts: Tensor) -> Tensor:
        model = masked()
        for ids in parts:
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    ids, start = documents(16)
    cuts = [*(ids[0] == END).nonzero().flatten().tolist(), 15]
    parts = [ids[:, a : b + 1] for a, b in pairwise(cuts)]
    assert near(gradient(ids), gradient(*parts), arithmetic)
    assert start == cuts[2]


@torch.no_grad()
def test_fast_inference_keeps_documents_apart(arithmetic: Arithmetic) -> None:
    model = masked(n_head=4, n_kv_head=2)
    ids, _ = documents(16)
    ids[1] = ids[1].roll(2)  # the documents of the rows start at different places
    network, expected = for_inference(model), model(ids)
    assert near(network.logits(network.hidden(ids)), expected, arithmetic)
    for rows in ([0, 1], [0], [1]):  # one text is computed in another way than several
        for first in (1, 7):
            cache = network.new_cache(len(rows))
            logits = [network.next_logits(ids[rows, :first].tolist(), cache)]
            logits += [
                network.next_logits(ids[rows, place : place + 1].tolist(), cache)
                for place in range(first, 16)
            ]
            wanted = expected[rows, first - 1 :]
            assert near(torch.stack(logits, dim=1), wanted, arithmetic)


@torch.no_grad()
def test_kept_sequences_keep_their_documents(arithmetic: Arithmetic) -> None:
    model = masked()
    ids, _ = documents(16)
    ids[1] = ids[1].roll(2)
    network = for_inference(model)
    cache = network.new_cache(2)
    network.next_logits(ids[:, :9].tolist(), cache)
    cache.keep(torch.tensor([1]))
    found = [network.next_logits([[token]], cache) for token in ids[1, 9:].tolist()]
    assert near(torch.stack(found, dim=1), model(ids[1:])[:, 9:], arithmetic)


def test_a_text_after_the_end_of_another_is_generated_as_if_it_were_alone() -> None:
    model = masked()
    model.compute_dtype = torch.float32  # a near tie can be decided by rounding
    start = [END, 5, 9]
    for network in (for_inference(model), Recomputing(model)):
        after, alone = write(
            network,
            [[END, 3, 8, 1, 20, *start], start],
            Sampling(6, temperature=0.8),
            [generator(1), generator(1)],
        )
        assert after == alone


def test_a_score_depends_on_the_document_alone(arithmetic: Arithmetic) -> None:
    model = masked()
    sizes = torch.ones(61, dtype=torch.int64).numpy()
    first, start = documents(16)
    other, _ = documents(16, seed=1)
    other[:, start:] = first[:, start:]
    losses = [
        predict(model, make_windows(ids[0, 1:].numpy(), sizes, END, 16)).losses
        for ids in (first, other)
    ]
    assert near(losses[0][start:], losses[1][start:], arithmetic)
    assert not near(losses[0][:start], losses[1][:start], arithmetic)


def test_the_model_folder_keeps_the_setting(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(make_documents(50, seed=1), 300)
    for end in (None, tokenizer.end_of_text):
        model = random_model(tiny_config(vocab_size=tokenizer.vocab_size, document_end=end))
        save_model(tmp_path / "model", model, tokenizer)
        assert load_network(tmp_path / "model").config.document_end == end
