"""Times training and generation of a model of GPT-2's size on a GPU, and a product beside them."""

import re
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.checks import SETTINGS, Keeper, Stopped
from benchmarks.workers.shapes import Shape
from tinyllm.compute import choose, generator, set_up
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Sampling, write
from tinyllm.models.config import ModelConfig
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.load import load_params
from tinyllm.training.compiled import compile_training
from tinyllm.training.dataset import Batches, loader
from tinyllm.training.distributed.processes import ALONE
from tinyllm.training.loop import train
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

Figures = dict[str, float]
GPT2 = Shape(12, 12, 768, 1024, 12, 50304)  # nanoGPT's bench.py: 12 texts of 1,024 tokens
TINY = Shape(2, 2, 64, 32, 2, 256)  # the same program within seconds, on a CPU
ROUNDS = 5


class Clock(Keeper):
    """Notes when each step ends, and stops the training after some steps."""

    def __init__(self, stop: int) -> None:
        super().__init__(stop)
        self.ends = [time.perf_counter()]

    def step(self, step: int, values: dict[str, float]) -> None:
        super().step(step, values)
        self.ends.append(time.perf_counter())  # the loss was read, so the GPU has finished


def model_of(shape: Shape) -> Model:
    """A model with random weights; embedding and head share theirs, as GPT-2's do."""
    config = ModelConfig(
        architecture="qwen3", vocab_size=shape.vocab_size, context_length=shape.context_length,
        n_layer=shape.n_layer, n_head=shape.n_head, n_kv_head=shape.n_head,
        d_model=shape.d_model, tie_embeddings=True,
    )  # fmt: skip
    return TinyLLM(config, generator(1, "weights"))


def training(device: str, shape: Shape, steps: int, optimizer: str) -> Figures:
    """Train as `dvc repro` does, in bf16 and compiled on a GPU.

    Returns:
        Tokens per second from the median step, seconds of the first step, peak memory in bytes.
    """
    params = load_params(SETTINGS)
    hardware = params.hardware.model_copy(
        update={"device": device, "precision": "bf16", "compile": device == "cuda"}
    )
    compute = choose(hardware, ALONE)
    set_up(compute.threads)
    settings = params.train.model_copy(
        update={"optimizer": optimizer, "batch_size": shape.batch_size, "eval_interval": 1 << 40,
                "max_steps": 1 << 40, "micro_batch_size": None}
    )  # fmt: skip
    model = model_of(shape).to(compute.device)
    model.compute_dtype = compute.dtype
    if compute.compiled:
        compile_training(model)
    state = TrainState(model, make_optimizer(model, settings), step=1)
    text = shape.text().numpy().astype(np.uint16)
    batches = Batches(text, shape.context_length, shape.batch_size, params.seed)
    items = iter(loader(batches, 1, 1 << 40, num_workers=0, pin_memory=True))
    clock = Clock(steps + 1)
    with suppress(Stopped):
        train(state, items, {}, settings, params.seed, clock, clock)
    first, *others = np.diff(clock.ends)
    step = statistics.median(others[len(others) // 3 :])
    return {
        "tokens/s": shape.tokens / step,
        "first step, s": float(first),
        "memory, bytes": peak_memory(device),
        "FLOP/s": shape.tokens / step * flops_a_token(model, shape),
    }


def flops_a_token(model: Model, shape: Shape) -> float:
    """FLOPs of a training step per token: https://arxiv.org/abs/2204.02311, appendix B."""
    weights = sum(p.numel() for p in model.parameters())
    return 6 * weights + 12 * shape.n_layer * shape.d_model * shape.context_length


def peak_memory(device: str) -> float:
    """The most bytes that tensors on the GPU took; NaN on a CPU."""
    return float(torch.cuda.max_memory_allocated()) if device == "cuda" else float("nan")


def product(device: str, size: int) -> Figures:
    """FLOP/s of a product of two square matrices in bf16: what the card does at best."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(3 + ROUNDS):
        wait(device)
        started = time.perf_counter()
        for _ in range(10):
            a @ b
        wait(device)
        seconds.append((time.perf_counter() - started) / 10)
    return {"FLOP/s": 2 * size**3 / statistics.median(seconds[3:])}


def generation(device: str, shape: Shape, texts: int, tokens: int) -> Figures:
    """Tokens per second of some texts at once, in fp32 as for the samples of `evaluate`."""
    set_up(1)
    network = for_inference(model_of(shape).to(device).eval())
    sampling = Sampling(tokens, 0.8, 50)
    speeds = []
    for number in range(1 + ROUNDS):
        generators = [generator(number, f"text {index}", device="cpu") for index in range(texts)]
        started = time.perf_counter()
        found = write(network, [[0]] * texts, sampling, generators)
        wait(device)
        speeds.append(sum(map(len, found)) / (time.perf_counter() - started))
    return {"tokens/s": statistics.median(speeds[1:])}


def wait(device: str) -> None:
    """Wait until the GPU has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def nanogpt(checkout: Path, patience: float) -> Figures:
    """Tokens per second of nanoGPT's bench.py, on random data: bf16, compiled, fused AdamW.

    Raises:
        RuntimeError: it fails, or prints no time.
    """
    done = subprocess.run(
        [sys.executable, "bench.py", "--real_data=False"],
        cwd=checkout, capture_output=True, text=True, check=False, timeout=patience,
    )  # fmt: skip
    found = re.search(r"time per iteration: ([\d.]+)ms", done.stdout)
    if done.returncode or found is None:
        raise RuntimeError(
            f"bench.py: status {done.returncode}: {(done.stderr or done.stdout)[-500:]}"
        )
    return {"tokens/s": GPT2.tokens / (float(found[1]) / 1000)}


def all_speeds(device: str, small: bool, checkout: Path | None, patience: float) -> dict[str, Any]:
    """What is timed, by name: functions without arguments.

    Args:
        small: a tiny model, to try the program on a CPU.
        checkout: of nanoGPT; without one it is not timed.
        patience: seconds after which nanoGPT is stopped.
    """
    shape, steps, tokens, size = (TINY, 3, 8, 64) if small else (GPT2, 60, 256, 8192)
    found: dict[str, Any] = {
        "product": lambda: product(device, size),
        "training, AdamW": lambda: training(device, shape, steps, "adamw"),
        "training, Muon": lambda: training(device, shape, steps, "muon"),
        "one text": lambda: generation(device, shape, 1, tokens),
        "64 texts": lambda: generation(device, shape, 64, tokens),
    }
    if checkout is not None:
        found["nanoGPT"] = lambda: nanogpt(checkout, patience)
    return found
