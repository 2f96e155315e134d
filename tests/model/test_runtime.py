"""Device, precision, threads, and whose random numbers are whose."""

import os
from typing import Any

import pytest
import torch

from tests.helpers import ROOT
from tinyllm.common.processes import available_cores
from tinyllm.model.runtime import choose, derive_seed, generator
from tinyllm.settings.hardware import Hardware
from tinyllm.settings.load import load_params
from tinyllm.training.ranks import ALONE


def hardware(**changes: Any) -> Hardware:
    section = load_params(ROOT / "params.yaml").hardware.model_dump()
    here = {"device": "cpu", "precision": "auto", "threads": None}
    return Hardware.model_validate(section | here | changes)


def test_no_two_uses_of_random_numbers_share_a_seed() -> None:
    uses = [
        derive_seed(seed, owner, index)
        for seed in (0, 1, 10, 1337)
        for owner in ("weights", "data order", "dropout", "sample 1", "sample 11")
        for index in (0, 1, 11, 100)
    ]
    assert len(set(uses)) == len(uses)
    assert all(0 <= seed < 1 << 63 for seed in uses)  # what torch and numpy take


def test_a_generator_follows_from_seed_and_owner() -> None:
    draw = torch.rand(5, generator=generator(1, "weights"))
    assert torch.equal(torch.rand(5, generator=generator(1, "weights")), draw)
    assert not torch.equal(torch.rand(5, generator=generator(2, "weights")), draw)
    assert not torch.equal(torch.rand(5, generator=generator(1, "dropout")), draw)


def test_the_threads_asked_for_are_used() -> None:
    assert choose(hardware(threads=1)).threads == torch.get_num_threads() == 1
    assert choose(hardware()).threads == torch.get_num_threads() == available_cores()
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_precision_asked_for_is_used(precision: str, dtype: torch.dtype) -> None:
    compute = choose(hardware(precision=precision))
    assert (compute.precision, compute.dtype) == (precision, dtype)


def test_a_cpu_compiles_only_when_told_to_and_says_what_that_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not choose(hardware(compile="auto"), ALONE).compiled
    monkeypatch.setenv("CXX", "sh")  # anything that is there
    assert choose(hardware(compile=True), ALONE).compiled
    assert not choose(hardware(compile=False), ALONE).compiled
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not choose(hardware(compile="auto"), ALONE).compiled
    with pytest.raises(ValueError, match=r"^hardware.compile = true: .*\(no-such-compiler\)"):
        choose(hardware(compile=True), ALONE)
    assert not choose(hardware(compile=True)).compiled  # evaluates where it could not train


def test_what_was_chosen_is_told() -> None:
    compute = choose(hardware())
    assert compute.device == "cpu"
    assert compute.precision in ("fp32", "bf16")
    assert compute.torch_version == torch.__version__
    assert compute.device_name and compute.instruction_set
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[device]:
        assert choose(hardware(device=device)).device == device
        return
    with pytest.raises(ValueError, match=f"^hardware.device = '{device}': there is no such device"):
        choose(hardware(device=device))
