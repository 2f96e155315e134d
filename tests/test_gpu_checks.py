"""What `python -m benchmarks.gpu` checks holds on a GPU and on a CPU, and fails where it must."""

from typing import Any

import pytest
import torch

from benchmarks.gpu.checks import all_checks, assert_same_bits
from tinyllm.training.state import TrainState


@pytest.mark.parametrize("name", list(all_checks("cpu", compiled=False)))
def test_a_check_holds_on_a_cpu(name: str) -> None:
    all_checks("cpu", compiled=False)[name]()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", list(all_checks("cuda", compiled=True)))
def test_a_check_holds_on_a_gpu(name: str) -> None:
    all_checks("cuda", compiled=True)[name]()


def test_a_changed_bit_is_found() -> None:
    one = torch.tensor([1.0, 2.0])
    with pytest.raises(AssertionError, match="weight: 1 of 2 values differ"):
        assert_same_bits("weight", one, torch.nextafter(one, torch.tensor([1.0, 9.0])))


def test_a_resume_from_another_state_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a checkpoint lost the optimizer's averages."""
    whole = TrainState.restore

    def forgetful(state: TrainState, *given: Any) -> None:
        whole(state, *given)
        state.optimizer.state.clear()

    monkeypatch.setattr(TrainState, "restore", forgetful)
    with pytest.raises(AssertionError, match="values differ"):
        all_checks("cpu", compiled=False)["resume, AdamW"]()
