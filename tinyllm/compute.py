"""Device, precision, threads and random generators."""

import hashlib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch

from tinyllm.common.allocator import keep_memory
from tinyllm.common.os_processes import available_cores
from tinyllm.compiler import cpp_compiler_version, obstacle
from tinyllm.settings.hardware import Hardware


@dataclass(frozen=True)
class Compute:
    """The hardware and software of a computation; all of it decides the last bits of a result.

    Attributes:
        device: "cpu", "cuda" or "mps".
        precision: "fp32", or "bf16" for products and activations (weights stay fp32).
        threads: CPU threads.
        device_name: name of the processor or GPU.
        instruction_set: the widest one that torch's CPU kernels use.
        torch_version: including its build.
        numpy_version: version of numpy, which draws the order of the data.
        world_size: processes that share each batch.
        sharding: "none", or "full" if each process holds only a shard of the model.
        compiled: whether training uses torch's compiler.
        cpp_compiler: the C++ compiler and its version, where training runs its code.
    """

    device: str
    precision: str
    threads: int
    device_name: str
    instruction_set: str
    torch_version: str
    numpy_version: str
    world_size: int = 1
    sharding: str = "none"
    compiled: bool = False
    cpp_compiler: str | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The type of activations."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def name(self) -> str:
        """A short name, the same for everything that computes the same bits."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]


# FLOPs for each thread of a training that `auto` compiles on a CPU: about ten minutes. Compiling
# takes half a minute, and then a step takes 0.75 to 0.9 of its time (docs/log.md).
LONG_ON_CPU = 5e13


class Machine(Protocol):
    """The processes that compute together: their number, and their number on this machine."""

    @property
    def first(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def local_size(self) -> int: ...


def choose(settings: Hardware, training: Machine | None = None, flops: float = 0.0) -> Compute:
    """Choose device, precision and threads, without side effects.

    Args:
        training: the processes that will train; None if nothing is trained and so not compiled.
        flops: FLOPs of the whole training (`Train.flops`).

    Raises:
        ValueError: the device or the compiler in the settings is not available.
    """
    verbose = training is None or training.first
    device = device_for(settings.device, verbose=verbose)
    threads = threads_for(settings.threads, 1 if training is None else training.local_size)
    compiled = False
    if training is not None:
        long = flops / (threads * training.size) >= LONG_ON_CPU
        compiled = _compiles(settings.compile, device, long, verbose)
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if _fast_bf16(device) else "fp32"
        if precision == "fp32" and device == "cuda" and training is not None and verbose:
            print(
                f"hardware.precision: fp32, since {_device_name(device)} does not compute in bf16"
            )
    return Compute(
        device=device,
        precision=precision,
        threads=threads,
        device_name=_device_name(device),
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        torch_version=torch.__version__,
        numpy_version=np.__version__,
        world_size=1 if training is None else training.size,
        sharding=settings.sharding,
        compiled=compiled,
        cpp_compiler=cpp_compiler_version() if compiled and device == "cpu" else None,
    )


def device_for(wanted: str, *, verbose: bool = True) -> str:
    """Like `find_device`, and print why an existing GPU is not used."""
    device = find_device(wanted)
    if verbose and wanted == "auto" and device != "cuda" and torch.cuda.is_available():
        print(f"hardware.device: {device}, since {unsupported_card()}")
    return device


def threads_for(wanted: int | None, sharing: int = 1) -> int:
    """CPU threads of a process, if `sharing` processes share this machine's cores."""
    return wanted or max(1, available_cores() // sharing)


def set_up(threads: int) -> None:
    """Make torch deterministic in this process, with a number of threads."""
    torch.set_num_threads(threads)
    keep_memory()
    # CUDA's matrix library is deterministic only with a fixed workspace, set before it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms(True), without its import of a compiler (1.8 s).
    torch.set_deterministic_debug_mode("error")
    # Filling new memory only protects reads of unwritten memory, and costs up to 4 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def find_device(wanted: str) -> str:
    """The device that a setting selects.

    Raises:
        ValueError: the device is not available.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted in ("auto", "cuda") and there["cuda"] and (reason := unsupported_card()):
        if wanted == "cuda":
            raise ValueError(f"hardware.device = 'cuda': {reason}")
        there["cuda"] = False
    if wanted == "auto":
        return next(device for device in there if there[device])
    if not there[wanted]:
        raise ValueError(f"hardware.device = {wanted!r}: there is no such device here")
    return wanted


def unsupported_card() -> str | None:
    """Why this build of torch can't use the CUDA device of this machine; None if it can.

    A build has kernels for some compute capabilities. Kernels of `sm_80` run on any GPU 8.x; from
    `compute_90` the driver compiles kernels for any newer GPU. ROCm has other names.
    """
    kernels, capability = torch.cuda.get_arch_list(), torch.cuda.get_device_capability()
    for name in kernels:
        kind, _, number = name.partition("_")
        digits = re.match(r"\d+", number)
        if digits is None or kind not in ("sm", "compute"):
            return None
        version = divmod(int(digits[0]), 10)
        same = kind == "compute" or version[0] == capability[0]
        if same and version <= capability:
            return None
    if not kernels:
        return None
    wanted = "".join(map(str, capability))
    return (
        f"torch {torch.__version__} has no kernels for {torch.cuda.get_device_name()} "
        f"(sm_{wanted}), only for {', '.join(kernels)}; install a build of torch that supports it"
    )


def _compiles(wanted: bool | str, device: str, long: bool, verbose: bool) -> bool:
    """Whether to train with torch's compiler; by default, if it is known to be faster.

    Args:
        long: whether the training is long for a CPU.

    Raises:
        ValueError: the settings require it and it does not work here.
    """
    measured = device == "cuda" or (device == "cpu" and sys.platform == "linux" and long)
    if wanted is False or (wanted == "auto" and not measured):
        return False
    reason = obstacle(device)
    if reason is not None and wanted is True:
        raise ValueError(f"hardware.compile = true: torch can't compile here: {reason}")
    if reason is not None and verbose:
        print(f"hardware.compile: not compiled, since torch can't compile here: {reason}")
    return reason is None


def _fast_bf16(device: str) -> bool:
    """Whether the device multiplies bf16 faster than fp32."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "mps":
        return False
    has = torch.cpu.get_capabilities()
    if has.get("amx_bf16"):
        return True
    # Intel's AVX512 multiplies bf16 at half the speed of fp32, AMD's at twice (docs/log.md).
    return bool(has.get("avx512_bf16")) and "Intel" not in str(has.get("cpu_name"))


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return str(torch.cpu.get_capabilities().get("cpu_name") or "CPU")


def derive_seed(seed: int, owner: str, index: int = 0) -> int:
    """Derive the seed of one use of random numbers, so that no two uses share a sequence."""
    digest = hashlib.blake2b(f"{seed}/{owner}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, owner: str, device: str = "cpu") -> torch.Generator:
    """A torch generator for one owner of random numbers."""
    return torch.Generator(device).manual_seed(derive_seed(seed, owner))
