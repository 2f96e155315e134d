"""Text that a model writes: the same for the same seed, and what its logits say."""

import pytest
import torch

from tests.helpers import generator, random_ids, random_model, tiny_config
from tinyllm.model.transformer import TinyLLM
from tinyllm.scoring.generation import Sampling, choose, generate

GREEDY = Sampling(12, temperature=0)


def write(
    model: TinyLLM, prompt: torch.Tensor, sampling: Sampling, seed: int = 1, stop: int | None = None
) -> list[list[int]]:
    """What follows each row of a prompt."""
    steps = list(generate(model, prompt, sampling, generator(seed), stop))
    return torch.stack(steps, dim=1).tolist() if steps else [[] for _ in prompt]


@torch.no_grad()
def write_slowly(model: TinyLLM, prompt: torch.Tensor, count: int) -> list[list[int]]:
    """The likeliest tokens, without a cache: while all fits into the context."""
    ids = prompt
    for _ in range(count):
        ids = torch.cat((ids, model(ids)[:, -1:].argmax(dim=-1)), dim=1)
    return ids[:, prompt.size(1) :].tolist()


# ----- choosing a token


def test_temperature_0_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9], [5.0, -1.0, 4.9]])
    for seed in range(20):
        assert choose(logits, GREEDY, generator(seed)).tolist() == [1, 0]


def test_the_lowest_temperature_takes_the_likeliest_too() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9], [5.0, -1.0, 4.9]])
    assert choose(logits, Sampling(1, 1e-40), generator(0)).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_their_probability_says(temperature: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    count = 20_000
    drawn = choose(logits.expand(count, 4), Sampling(1, temperature), generator(1))
    shares = drawn.bincount(minlength=4) / count
    # Four standard deviations of a share are at most 4 * sqrt(0.25 / 20,000) = 0.014.
    torch.testing.assert_close(shares, (logits / temperature).softmax(0), atol=0.015, rtol=0)


def test_top_k_leaves_the_likeliest_with_their_shares() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    count = 20_000
    drawn = choose(logits.expand(count, 4), Sampling(1, 1.0, top_k=2), generator(1))
    shares = drawn.bincount(minlength=4) / count
    assert shares[0] == shares[2] == 0
    assert shares[1] == pytest.approx(1 / (1 + 0.60653), abs=0.015)  # exp(0.5 - 1) = 0.60653
    one = choose(logits.expand(50, 4), Sampling(1, 1.0, top_k=1), generator(1))
    assert one.tolist() == [1] * 50
    all_of_them = [
        choose(logits.expand(50, 4), Sampling(1, 1.0, top_k=k), generator(1)).tolist()
        for k in (None, 4, 1000)
    ]
    assert all_of_them[0] == all_of_them[1] == all_of_them[2]


# ----- writing


def test_the_same_seed_writes_the_same() -> None:
    model, prompt = random_model(), random_ids(2, 3)
    sampling = Sampling(40, temperature=1.0, top_k=20)
    torch.manual_seed(1)
    one = write(model, prompt, sampling, seed=7)
    torch.manual_seed(2)
    assert write(model, prompt, sampling, seed=7) == one
    assert write(model, prompt, sampling, seed=8) != one


def test_only_its_own_generator_is_drawn_from() -> None:
    model = random_model(tiny_config(dropout=0.5)).train()
    state = torch.get_rng_state()
    write(model, random_ids(1, 3), Sampling(30))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("length", [1, 4])
def test_the_cache_changes_nothing(length: int) -> None:
    model, prompt = random_model(), random_ids(3, length)
    assert write(model, prompt, GREEDY) == write_slowly(model, prompt, 12)


def test_the_prompt_is_left_out_and_the_length_is_kept() -> None:
    model = random_model()
    [tokens] = write(model, random_ids(1, 3), Sampling(9))
    assert len(tokens) == 9 and all(0 <= token < 61 for token in tokens)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("context_length", [2, 3, 16])
def test_it_goes_on_past_the_context(length: int, context_length: int) -> None:
    model = random_model(tiny_config(context_length=context_length))
    prompt = random_ids(2, length)
    written = write(model, prompt, Sampling(50, temperature=0))
    assert [len(row) for row in written] == [50, 50]
    # A prompt longer than the context counts by its end.
    assert written == write(model, prompt[:, -context_length:], Sampling(50, temperature=0))


@pytest.mark.parametrize("length", [1, 5, 16])
@pytest.mark.parametrize("context_length", [15, 16])
@torch.no_grad()
def test_past_the_context_the_newer_half_of_it_is_kept(length: int, context_length: int) -> None:
    model = random_model(tiny_config(context_length=context_length))
    prompt = random_ids(40, length)
    seen, expected = prompt[:, -context_length:], []
    for _ in range(60):
        token = model(seen)[:, -1:].argmax(dim=-1)
        expected.append(token)
        full = seen.size(1) == context_length
        seen = torch.cat((seen, token), dim=1)[:, -(context_length // 2) if full else 0 :]
    assert write(model, prompt, Sampling(60, temperature=0)) == torch.cat(expected, dim=1).tolist()


def test_a_stop_token_ends_the_text_and_is_not_part_of_it() -> None:
    model, prompt = random_model(), random_ids(1, 3)
    [tokens] = write(model, prompt, Sampling(12, temperature=1.0))
    stop = tokens[7]
    assert write(model, prompt, Sampling(12, temperature=1.0), stop=stop) == [
        tokens[: tokens.index(stop)]
    ]


def test_several_texts_go_on_until_each_has_stopped() -> None:
    model, prompt = random_model(), random_ids(4, 3)
    rows = write(model, prompt, Sampling(300))
    written = write(model, prompt, Sampling(300), stop=rows[0][0])
    first = [row.index(rows[0][0]) if rows[0][0] in row else 300 for row in rows]
    assert len(written[0]) == max(first) > 0


def test_half_precision_writes_too() -> None:
    model = random_model()
    model.compute_dtype = torch.bfloat16
    assert len(write(model, random_ids(1, 3), Sampling(40))[0]) == 40
