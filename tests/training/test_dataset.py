"""The batch of each step is a function of seed and step only."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tinyllm.training.dataset import Batches, loader

# All different, so that each token identifies its position.
TOKENS = np.arange(1003, dtype=np.uint16)


def batches(seed: int = 1, tokens: np.ndarray = TOKENS, batch_size: int = 4) -> Batches:
    return Batches(tokens, 16, batch_size, seed)


def assert_same(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def epoch_starts(data: Batches, epoch: int) -> list[int]:
    """The starts of an epoch's windows, in the order of training."""
    count = data.windows_per_epoch
    rows = range(epoch * count, (epoch + 1) * count)
    steps = {row // data.batch_size for row in rows}
    inputs = {step: data[step][0] for step in steps}
    return [int(inputs[row // data.batch_size][row % data.batch_size, 0]) for row in rows]


def test_a_batch_has_windows_and_the_next_tokens() -> None:
    inputs, targets = batches()[0]
    assert inputs.shape == targets.shape == (4, 16)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs - inputs[:, :1], torch.arange(16).expand(4, 16))


def test_any_steps_batch_can_be_looked_up() -> None:
    """Steps can be requested in any order, any number of times, in any process."""
    one, two = batches(), batches()
    forwards = {step: one[step] for step in range(60)}
    for step in [59, 3, 3, 31, 0, 15, 16, 14]:
        assert_same(two[step], forwards[step])


@pytest.mark.parametrize(("first", "num_workers"), [(0, 0), (0, 2), (17, 0), (17, 2)])
def test_workers_and_the_first_step_change_no_batch(first: int, num_workers: int) -> None:
    expected = batches()
    loaded = loader(batches(), first, 40, num_workers=num_workers, pin_memory=False)
    steps = 0
    for step, batch in enumerate(loaded, start=first):
        assert_same(batch, expected[step])
        steps += 1
    assert steps == 40 - first


def test_over_the_epochs_each_token_is_at_each_position_of_a_window() -> None:
    data = batches()
    assert {data.starts(epoch)[0] % 16 for epoch in range(300)} == set(range(16))


def test_another_seed_gives_other_batches() -> None:
    assert epoch_starts(batches(seed=1), 0) != epoch_starts(batches(seed=2), 0)


def test_no_global_generator_is_used() -> None:
    state, numpy_state = torch.get_rng_state(), str(np.random.get_state())
    first = batches()[7]
    assert torch.equal(torch.get_rng_state(), state)
    assert str(np.random.get_state()) == numpy_state
    torch.manual_seed(123)
    np.random.seed(123)
    assert_same(batches()[7], first)


@pytest.mark.parametrize("epoch", [0, 1, 5])
@pytest.mark.parametrize("length", [17, 18, 31, 32, 33, 47, 48, 49, 500, 1003])
def test_an_epoch_has_each_window_once_and_no_token_twice(epoch: int, length: int) -> None:
    data = batches(tokens=TOKENS[:length])
    starts = epoch_starts(data, epoch)
    assert len(starts) == data.windows_per_epoch
    assert np.all(np.diff(sorted(starts)) == 16)  # adjacent: no overlap, no gap
    assert min(starts) >= 0 and max(starts) + 16 < length
    assert length - 16 * len(starts) <= 2 * 16  # everything except the edges


def test_each_epoch_has_its_own_order_and_its_own_windows() -> None:
    data = batches()
    orders = [epoch_starts(data, epoch) for epoch in range(8)]
    assert len({tuple(order) for order in orders}) == 8
    assert len({min(order) for order in orders}) > 3
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("length", [17, 30, 33, 100, 111])
def test_over_the_epochs_every_token_is_a_target(length: int) -> None:
    seen = set()
    for epoch in range(300):
        for start in epoch_starts(batches(tokens=TOKENS[:length]), epoch):
            seen |= set(range(start + 1, start + 17))
    assert seen == set(range(1, length))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_each_batch_out(world_size: int) -> None:
    whole = batches(batch_size=8)
    processes = [
        Batches(TOKENS, 16, 8, 1, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    for step in (0, 7, 8, 30):
        inputs, targets = whole[step]
        for rank, data in enumerate(processes):
            assert_same(data[step], (inputs[rank::world_size], targets[rank::world_size]))


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    inputs, _ = batches(tokens=TOKENS[:40], batch_size=32)[0]
    assert inputs.shape == (32, 16)


@pytest.mark.parametrize("length", [0, 1, 16])
def test_a_split_shorter_than_a_window_is_an_error(length: int) -> None:
    with pytest.raises(ValueError, match=rf"^train\.context_length = 16: .* {length} tokens"):
        batches(tokens=TOKENS[:length])
    assert batches(tokens=TOKENS[:17])[3][0].shape == (4, 16)


def test_large_ids_are_preserved() -> None:
    tokens = np.array([65_535, 65_536, 199_999] * 10, dtype=np.uint32)
    inputs, targets = batches(tokens=tokens)[0]
    assert set(inputs.unique().tolist()) == set(targets.unique().tolist()) == {*tokens.tolist()}
