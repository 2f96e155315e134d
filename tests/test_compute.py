"""Device, precision, threads, and the owners of random numbers."""

import os
import re
import shutil
from typing import Any

import pytest
import torch

from tests.helpers import ROOT
from tinyllm import compute
from tinyllm.common.os_processes import available_cores
from tinyllm.compiler import cpp_compiler, cpp_compiler_version, obstacle
from tinyllm.compute import choose, derive_seed, generator, set_up
from tinyllm.experiments.check import Machine
from tinyllm.settings.hardware import Hardware
from tinyllm.settings.load import load_params
from tinyllm.training.distributed.launch import gpus
from tinyllm.training.distributed.processes import ALONE


def hardware(**changes: Any) -> Hardware:
    section = load_params(ROOT / "params.yaml").hardware.model_dump()
    here = {"device": "cpu", "precision": "auto", "threads": None}
    return Hardware.model_validate(section | here | changes)


def test_each_use_of_random_numbers_has_its_own_seed() -> None:
    uses = [
        derive_seed(seed, owner, index)
        for seed in (0, 1, 10, 1337)
        for owner in ("weights", "data order", "dropout", "sample 1", "sample 11")
        for index in (0, 1, 11, 100)
    ]
    assert len(set(uses)) == len(uses)
    assert all(0 <= seed < 1 << 63 for seed in uses)  # the range of torch and numpy


def test_a_generator_depends_on_seed_and_owner() -> None:
    draw = torch.rand(5, generator=generator(1, "weights"))
    assert torch.equal(torch.rand(5, generator=generator(1, "weights")), draw)
    assert not torch.equal(torch.rand(5, generator=generator(2, "weights")), draw)
    assert not torch.equal(torch.rand(5, generator=generator(1, "dropout")), draw)


def test_the_configured_threads_are_used() -> None:
    before = torch.get_num_threads()
    one, all_cores = choose(hardware(threads=1)), choose(hardware())
    assert torch.get_num_threads() == before  # choosing sets nothing
    set_up(one.threads)
    assert torch.get_num_threads() == 1
    set_up(all_cores.threads)
    assert all_cores.threads == torch.get_num_threads() == available_cores()
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_configured_precision_is_used(precision: str, dtype: torch.dtype) -> None:
    compute = choose(hardware(precision=precision))
    assert (compute.precision, compute.dtype) == (precision, dtype)


# Capabilities that torch reports of a processor, and the precision that `auto` selects.
CPUS: list[tuple[dict[str, Any], str]] = [
    ({"cpu_name": "Intel Xeon", "avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, "bf16"),
    ({"cpu_name": "Intel Xeon", "avx512_f": True, "avx512_bf16": True}, "fp32"),
    ({"cpu_name": "Intel Core i7", "avx2": True}, "fp32"),
    ({"cpu_name": "AMD Zen 4", "avx512_f": True, "avx512_bf16": True}, "bf16"),
    ({"cpu_name": "AMD Zen 3", "avx2": True}, "fp32"),
    ({"cpu_name": "ARM Neoverse V1", "neon": True, "bf16": True, "sve": True}, "fp32"),
    ({"cpu_name": "Apple M2", "neon": True}, "fp32"),
    ({}, "fp32"),
]
MODERN = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


def fake_card(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int], kernels: list[str]
) -> None:
    """A CUDA device as reported by torch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: kernels)


@pytest.mark.parametrize(("capabilities", "precision"), CPUS)
def test_auto_is_bf16_where_a_cpu_multiplies_it_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, Any], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    compute = choose(hardware(), ALONE)
    assert (compute.device, compute.precision, compute.compiled) == ("cpu", precision, False)
    assert compute.device_name == capabilities.get("cpu_name", "CPU")
    forced = "fp32" if precision == "bf16" else "bf16"
    assert choose(hardware(precision=forced), ALONE).precision == forced


@pytest.mark.parametrize(
    ("name", "capability", "precision"),
    [
        ("NVIDIA T4", (7, 5), "fp32"),
        ("NVIDIA A100", (8, 0), "bf16"),
        ("NVIDIA L4", (8, 9), "bf16"),
        ("NVIDIA H100", (9, 0), "bf16"),
        ("NVIDIA B200", (10, 0), "bf16"),
        ("NVIDIA GeForce RTX 5090", (12, 0), "bf16"),
        ("a future GPU", (13, 0), "bf16"),
    ],
)
def test_auto_selects_a_gpu_and_reports_missing_bf16(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    name: str, capability: tuple[int, int], precision: str,
) -> None:  # fmt: skip
    fake_card(monkeypatch, name, capability, MODERN)
    monkeypatch.setattr(compute, "obstacle", lambda _: None)
    chosen = choose(hardware(device="auto"), ALONE)
    assert (chosen.device, chosen.precision, chosen.compiled) == ("cuda", precision, True)
    assert chosen.device_name == name
    lines = capsys.readouterr().out.splitlines()
    expected = [f"hardware.precision: fp32, since {name} does not compute in bf16"]
    assert lines == (expected if precision == "fp32" else [])
    assert choose(hardware(device="auto")).device == "cuda"
    assert capsys.readouterr().out == ""  # scoring uses fp32 anyway


def test_on_an_apple_gpu_auto_is_fp32_without_compilation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    compute = choose(hardware(device="auto"), ALONE)
    assert (compute.device, compute.precision, compute.compiled) == ("mps", "fp32", False)


@pytest.mark.parametrize(
    ("capability", "kernels"),
    [((6, 1), MODERN), ((7, 0), MODERN), ((12, 0), ["sm_80", "sm_90"]), ((8, 0), ["sm_86"])],
)
def test_a_gpu_without_kernels_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    capability: tuple[int, int], kernels: list[str],
) -> None:  # fmt: skip
    fake_card(monkeypatch, "GTX", capability, kernels)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert choose(hardware(device="auto"), ALONE).device == "cpu"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("hardware.device: cpu, since torch ") and "no kernels for GTX" in line
    assert gpus(hardware(device="auto")) == 0  # the number of processes to start
    with pytest.raises(ValueError, match=r"^hardware.device = 'cuda': torch .* no kernels for GTX"):
        choose(hardware(device="cuda"), ALONE)
    assert choose(hardware(device="cpu"), ALONE).device == "cpu"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kernels", [["gfx90a", "gfx942"], [], ["sm_90a"], ["compute_50"]])
def test_a_gpu_with_fitting_or_unknown_kernels_is_used(
    monkeypatch: pytest.MonkeyPatch, kernels: list[str]
) -> None:
    fake_card(monkeypatch, "card", (9, 0), kernels)
    assert choose(hardware(device="auto", compile=False), ALONE).device == "cuda"


def test_if_torch_cannot_compile_auto_skips_it_and_true_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_card(monkeypatch, "NVIDIA A100", (8, 0), MODERN)
    monkeypatch.setattr(compute, "obstacle", lambda device: f"no Triton for {device}")
    assert not choose(hardware(device="cuda", compile="auto"), ALONE).compiled
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "hardware.compile: not compiled, since torch can't compile here: no Triton for cuda"
    )
    for device in ("cuda", "cpu"):
        expected = f"^hardware.compile = true: torch can't compile here: no Triton for {device}"
        with pytest.raises(ValueError, match=expected):
            choose(hardware(device=device, compile=True), ALONE)
        assert not choose(hardware(device=device, compile=True)).compiled  # evaluation works anyway
        assert not choose(hardware(device=device, compile=False), ALONE).compiled
    assert capsys.readouterr().out == ""


def test_a_gpu_without_triton_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert obstacle("cuda") == "the package triton is not installed"


def test_a_cpu_compiles_what_trains_for_long_or_is_configured_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute, "obstacle", lambda _: None)
    monkeypatch.setattr(compute, "cpp_compiler_version", lambda: "g++ 12.2")
    monkeypatch.setattr("sys.platform", "linux")
    for flops in (0.0, 9e13, 1e14):
        auto = hardware(compile="auto", threads=2)
        assert choose(auto, ALONE, flops).compiled == (flops == 1e14)
        assert not choose(auto, Machine(local_size=2, size=2), flops).compiled
        assert not choose(auto, None, flops).compiled
        assert not choose(hardware(compile=False, threads=2), ALONE, flops).compiled
        assert choose(hardware(compile=True, threads=2), ALONE, flops).compiled
    # Its version decides the last bits.
    assert choose(auto, ALONE, 1e14).cpp_compiler == "g++ 12.2"
    assert choose(auto, ALONE).cpp_compiler is None
    monkeypatch.setattr("sys.platform", "darwin")  # where nobody has measured it
    assert not choose(auto, ALONE, 1e14).compiled


@pytest.mark.skipif(shutil.which(cpp_compiler()) is None, reason="there is no C++ compiler")
def test_the_version_of_the_compiler_is_one_line_with_a_number() -> None:
    assert re.fullmatch(r".*\d+\.\d+.*", cpp_compiler_version())


def test_the_length_of_a_training_counts_the_blocks_and_the_tokens() -> None:
    train = load_params(ROOT / "params.yaml").train
    longer = train.model_copy(update={"max_steps": 3 * train.max_steps})
    deeper = train.model_copy(update={"n_layer": 3 * train.n_layer})
    wider = train.model_copy(update={"d_model": 3 * train.d_model})
    assert longer.flops == deeper.flops == 3 * train.flops
    assert wider.flops == 9 * train.flops


def test_the_chosen_device_is_described() -> None:
    compute = choose(hardware())
    set_up(compute.threads)
    assert compute.device == "cpu"
    assert compute.precision in ("fp32", "bf16")
    assert compute.torch_version == torch.__version__
    assert compute.device_name and compute.instruction_set
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_missing_device_is_an_error(device: str) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[device]:
        assert choose(hardware(device=device)).device == device
        return
    with pytest.raises(ValueError, match=f"^hardware.device = '{device}': there is no such device"):
        choose(hardware(device=device))
