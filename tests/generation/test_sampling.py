"""Generated text is the same for the same seed, and follows the model's logits."""

import resource
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import EXACT, generator, random_ids, random_model, tiny_config
from tinyllm.generation.network import for_inference
from tinyllm.generation.rows import penalised
from tinyllm.generation.sampling import Generation, Sampling, choose, write
from tinyllm.models.model import Model

GREEDY = Sampling(12, temperature=0)
# Draws: four standard deviations of a frequency are at most 4 * sqrt(0.25 / COUNT) = 0.014.
COUNT = 20_000


def draw(logits: torch.Tensor, sampling: Sampling, count: int = COUNT, seed: int = 1) -> list[int]:
    """Tokens drawn from logits (V,)."""
    chances = 1 - torch.rand(count, generator=generator(seed))
    return choose(logits.expand(count, -1), sampling, chances.tolist())


def shares(drawn: list[int], vocab_size: int) -> torch.Tensor:
    return torch.tensor(drawn).bincount(minlength=vocab_size) / len(drawn)


def written_by(
    model: Model,
    prompts: list[list[int]],
    sampling: Sampling,
    seed: int = 1,
    stop: int | None = None,
) -> list[list[int]]:
    """The continuation of each prompt; its random numbers depend on the seed and the prompt."""
    generators = [generator(hash((seed, *prompt)) % (1 << 60)) for prompt in prompts]
    return write(for_inference(model), prompts, sampling, generators, stop)


@torch.no_grad()
def written_slowly(model: Model, prompt: list[int], count: int) -> list[int]:
    """The most likely tokens, computed from scratch each time.

    When the context is full, the next token sees its newer half and the new token.
    """
    limit = model.config.context_length
    seen, text = prompt[-limit:], []
    for _ in range(count):
        text.append(int(model(torch.tensor([seen]))[0, -1].argmax()))
        full = len(seen) == limit
        seen = [*seen, text[-1]][-(limit // 2) if full else 0 :]
    return text


def prompts_of(*lengths: int) -> list[list[int]]:
    return [random_ids(length, seed=length).tolist() for length in lengths]


# ----- choosing a token


def test_temperature_0_selects_the_most_likely_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9], [5.0, -1.0, 4.9]])
    for chance in (1e-9, 0.5, 1.0):
        assert choose(logits, GREEDY, [chance] * 2) == [1, 0]


def test_the_lowest_temperature_selects_the_most_likely_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9], [5.0, -1.0, 4.9]])
    assert choose(logits, Sampling(1, 1e-40), [0.5] * 2) == [1, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_their_probability(temperature: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    found = shares(draw(logits, Sampling(1, temperature)), 4)
    torch.testing.assert_close(found, (logits / temperature).softmax(0), atol=0.015, rtol=0)


def test_top_k_keeps_the_most_likely_tokens_with_their_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    found = shares(draw(logits, Sampling(1, 1.0, top_k=2)), 4)
    assert found[0] == found[2] == 0
    assert found[1] == pytest.approx(1 / (1 + 0.60653), abs=0.015)  # exp(0.5 - 1) = 0.60653
    assert draw(logits, Sampling(1, 1.0, top_k=1), 50) == [1] * 50
    everything = [draw(logits, Sampling(1, 1.0, top_k=k), 50) for k in (None, 4, 1000)]
    assert everything[0] == everything[1] == everything[2]


@pytest.mark.parametrize(("top_p", "left"), [(0.01, 1), (0.49, 1), (0.51, 2), (0.84, 3), (1.0, 4)])
def test_top_p_keeps_the_most_likely_tokens_up_to_that_probability(top_p: float, left: int) -> None:
    logits = torch.tensor([0.1, 0.5, 0.07, 0.33]).log()
    order = [1, 3, 0, 2]
    found = shares(draw(logits, Sampling(1, 1.0, top_p=top_p)), 4)
    kept = torch.zeros(4).index_fill(0, torch.tensor(order[:left]), 1) * logits.exp()
    torch.testing.assert_close(found, kept / kept.sum(), atol=0.015, rtol=0)


def test_top_p_applies_after_top_k() -> None:
    logits = torch.tensor([0.1, 0.5, 0.07, 0.33]).log()
    # Among 0.5 and 0.33, the first has a probability of 0.602.
    assert set(draw(logits, Sampling(1, 1.0, top_k=2, top_p=0.6), 200)) == {1}
    assert set(draw(logits, Sampling(1, 1.0, top_k=2, top_p=0.61), 200)) == {1, 3}


@pytest.mark.parametrize("top_k", [None, 3])
def test_a_token_of_probability_0_is_never_drawn(top_k: int | None) -> None:
    impossible = float("-inf")
    logits = torch.tensor([impossible, 0.0, impossible, 0.0, impossible])
    least = torch.finfo(torch.float32).tiny
    for chance, token in ((least, 1), (0.5, 1), (0.5000001, 3), (1.0, 3)):
        assert choose(logits[None], Sampling(1, 1.0, top_k), [chance]) == [token]


FILTERS: list[dict[str, Any]] = [
    {}, {"top_k": 7}, {"top_p": 0.8}, {"min_p": 0.05}, {"repetition_penalty": 1.4},
    {"repetition_penalty": 0.7, "top_k": 20}, {"top_k": 12, "top_p": 0.7},
    {"top_p": 0.9, "min_p": 0.1}, {"top_k": 30, "min_p": 0.03},
    {"top_k": 40, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.2},
    {"top_p": 0.3}, {"top_p": 0.999}, {"top_p": 1.0}, {"min_p": 1.0}, {"min_p": 0.0},
]  # fmt: skip


def processed(logits: torch.Tensor, seen: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (B, V) by the processors of transformers, in the order of its `generate`."""
    from transformers.generation import logits_process as theirs

    processors: list[Any] = [theirs.TemperatureLogitsWarper(sampling.temperature)]
    if sampling.repetition_penalty != 1:
        penalty = theirs.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
        processors.insert(0, penalty)
    if sampling.top_k is not None:
        processors.append(theirs.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None:
        processors.append(theirs.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        processors.append(theirs.MinPLogitsWarper(sampling.min_p))
    for process in processors:
        logits = process(seen, logits)
    return logits.softmax(-1)


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_tokens_have_the_probabilities_of_transformers(
    filters: dict[str, Any], temperature: float
) -> None:
    V, rows = 300, 6
    sampling = Sampling(1, temperature, **filters)
    logits = 3 * torch.randn(rows, V, generator=generator(3))
    seen = random_ids(rows, 25, seed=4, vocab_size=V)
    expected = processed(logits, seen, sampling).double().numpy()
    mine = logits
    if sampling.repetition_penalty != 1:
        mask = torch.zeros(rows, V, dtype=torch.bool).scatter(1, seen, True)
        mine = penalised(logits, mask, sampling.repetition_penalty)
    for row in range(rows):
        # Each token's share of evenly spaced numbers is its probability.
        chances = [(i + 0.5) / 4000 for i in range(4000)]
        drawn = choose(mine[row].expand(len(chances), -1), sampling, chances)
        found = np.bincount(drawn, minlength=V) / len(chances)
        np.testing.assert_allclose(found, expected[row], atol=1.1 / len(chances))
        assert not found[expected[row] == 0].any()


@torch.no_grad()
def test_the_penalty_applies_to_the_prompt_and_the_generated_text() -> None:
    from transformers.generation import logits_process as theirs

    model, prompts = random_model(tiny_config(context_length=64)), prompts_of(3, 20)
    sampling = Sampling(30, temperature=0, repetition_penalty=1.5)
    penalty = theirs.RepetitionPenaltyLogitsProcessor(1.5)
    written = written_by(model, prompts, sampling)
    assert written != written_by(model, prompts, Sampling(30, temperature=0))
    for prompt, text in zip(prompts, written, strict=True):
        for count, token in enumerate(text):
            ids = torch.tensor([[*prompt, *text[:count]]])
            assert token == penalty(ids, model(ids)[:, -1]).argmax()


# ----- generating


def test_the_same_seed_generates_the_same_text() -> None:
    model, prompts = random_model(), prompts_of(3, 4)
    sampling = Sampling(40, temperature=1.0, top_k=20)
    torch.manual_seed(1)
    one = written_by(model, prompts, sampling, seed=7)
    torch.manual_seed(2)
    assert written_by(model, prompts, sampling, seed=7) == one
    assert written_by(model, prompts, sampling, seed=8) != one


@pytest.mark.usefixtures("arithmetic")
def test_only_the_given_generators_are_used() -> None:
    model = random_model(tiny_config(dropout=0.5)).train()
    state = torch.get_rng_state()
    written_by(model, prompts_of(3), Sampling(30))
    assert torch.equal(torch.get_rng_state(), state)


# In bf16 the logits of two tokens often differ only by rounding.
@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("arithmetic", EXACT, ids=str, indirect=True)
@pytest.mark.parametrize("context_length", [2, 3, 15, 16])
def test_each_text_is_the_most_likely_for_any_length_and_batch(context_length: int) -> None:
    """Also beyond the context; only the end of a longer prompt is read."""
    model = random_model(tiny_config(context_length=context_length))
    prompts = prompts_of(1, 40, 5, 17, 16, 15)
    expected = [written_slowly(model, prompt, 60) for prompt in prompts]
    assert written_by(model, prompts, Sampling(60, temperature=0)) == expected


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("arithmetic", EXACT, ids=str, indirect=True)
@pytest.mark.parametrize("sampling", [Sampling(60), Sampling(60, 0.8, 20, 0.9)])
def test_a_text_does_not_depend_on_the_others(sampling: Sampling) -> None:
    model, prompts = random_model(), prompts_of(1, 2, 3, 5, 8, 13, 21)
    stop = written_by(model, prompts[:1], sampling)[0][20]
    together = written_by(model, prompts, sampling, stop=stop)
    assert len({len(text) for text in together}) > 2  # some end early, and leave the batch
    for prompt, text in zip(prompts, together, strict=True):
        assert written_by(model, [prompt], sampling, stop=stop) == [text]
    assert written_by(model, prompts[::-2], sampling, stop=stop) == together[::-2]


@pytest.mark.usefixtures("arithmetic")
def test_tokens_are_yielded_as_they_are_generated() -> None:
    model, prompts = random_model(), prompts_of(2, 4)
    texts = written_by(model, prompts, GREEDY)
    generators = [generator(0), generator(0)]
    steps = list(Generation(for_inference(model), prompts, GREEDY, generators))
    first, second = (list(column) for column in zip(*steps, strict=True))
    assert first == [*texts[0], None, None]
    assert second == [None, None, *texts[1]]


@pytest.mark.usefixtures("arithmetic")
def test_a_stop_token_ends_the_text_and_is_not_part_of_it() -> None:
    model, prompts = random_model(), prompts_of(3, 5, 2)
    sampling = Sampling(60, temperature=1.0)
    texts = written_by(model, prompts, sampling)
    stop = texts[0][7]
    expected = [text[: text.index(stop)] if stop in text else text for text in texts]
    assert written_by(model, prompts, sampling, stop=stop) == expected
    first = [text[0] for text in texts]
    assert written_by(model, prompts[:1], sampling, stop=first[0]) == [[]]


@pytest.mark.usefixtures("arithmetic")
def test_random_numbers_are_the_same_however_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, prompts, sampling = random_model(), prompts_of(1, 7, 30, 3), Sampling(90)
    stop = written_by(model, prompts[:1], sampling)[0][25]
    expected = written_by(model, prompts, sampling, stop=stop)
    assert len({len(text) for text in expected}) > 1  # some end early, and leave the batch
    for at_once in (1, 7, 40):
        monkeypatch.setattr("tinyllm.generation.rows.CHANCES_AT_ONCE", at_once)
        assert written_by(model, prompts, sampling, stop=stop) == expected
    first = written_by(model, prompts[:1], Sampling(1))[0]
    drawn = torch.rand(90, generator=generator(hash((1, *prompts[0])) % (1 << 60)))
    logits = model(torch.tensor(prompts[:1]))[:, -1]
    assert choose(logits.detach(), sampling, (1 - drawn[:1]).tolist()) == first


def test_memory_grows_with_the_text_and_not_with_max_tokens() -> None:
    """A text that ends soon although 100 million tokens are allowed (400 MB of random numbers)."""
    model, prompts = random_model(), prompts_of(3, 5)
    stop = written_by(model, prompts[:1], GREEDY)[0][6]
    sampling = Sampling(100_000_000, temperature=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    generators = [generator(1), generator(2)]
    generation = Generation(for_inference(model), prompts, sampling, generators, stop)
    assert list(islice(generation, 10))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # in kB on Linux


def test_an_empty_prompt_is_an_error() -> None:
    assert written_by(random_model(), [], GREEDY) == []
    with pytest.raises(ValueError, match="at least one token"):
        written_by(random_model(), [[1], []], GREEDY)


@pytest.mark.usefixtures("arithmetic")
def test_prompts_of_any_length_are_continued() -> None:
    model = random_model()
    assert [len(text) for text in written_by(model, prompts_of(3, 20), Sampling(40))] == [40, 40]
