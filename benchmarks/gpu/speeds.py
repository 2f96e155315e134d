"""Times training and generation of a model of GPT-2's size on a GPU, and a product beside them."""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.checks import Keeper, Stopped
from benchmarks.workers.shapes import Shape
from benchmarks.workers.tinyllm import FOREVER, SETTINGS, make_model
from tinyllm.compute import choose, generator, set_up
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Sampling, write
from tinyllm.settings.load import load_params
from tinyllm.training.compiled import compile_training
from tinyllm.training.dataset import Batches, loader
from tinyllm.training.distributed.processes import ALONE
from tinyllm.training.loop import train
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

Figures = dict[str, float]  # by unit
SPEED, WORK = "tokens/s", "TFLOP/s"
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


def training(device: str, shape: Shape, steps: int, optimizer: str) -> Figures:
    """Train as `dvc repro` does, in bf16, and compiled on a GPU.

    The speed is that of the median step after the first third.
    """
    params = load_params(SETTINGS)
    hardware = params.hardware.model_copy(
        update={"device": device, "precision": "bf16", "compile": device == "cuda"}
    )
    compute = choose(hardware, ALONE)
    set_up(compute.threads)
    settings = params.train.model_copy(
        update={"optimizer": optimizer, "batch_size": shape.batch_size,
                "eval_interval": FOREVER, "max_steps": FOREVER, "micro_batch_size": None}
    )  # fmt: skip
    model = make_model(shape, "qwen3", params, tie_embeddings=True)  # as GPT-2's are
    model.to(compute.device).compute_dtype = compute.dtype
    if compute.compiled:
        compile_training(model)
    state = TrainState(model, make_optimizer(model, settings), step=1)
    text = shape.text().numpy().astype(np.uint16)
    batches = Batches(text, shape.context_length, shape.batch_size, params.seed)
    items = iter(loader(batches, 1, FOREVER, num_workers=0, pin_memory=True))
    clock = Clock(steps + 1)
    with suppress(Stopped):
        train(state, items, {}, settings, params.seed, clock, clock)
    first, *others = np.diff(clock.ends).tolist()
    speed = shape.tokens / statistics.median(others[len(others) // 3 :])
    figures = {
        SPEED: speed,
        WORK: speed * shape.flops_a_token / 1e12,
        "s for the first step": first,
    }
    if device == "cuda":
        figures["GB at most"] = torch.cuda.max_memory_allocated() / 1e9
    return figures


def product(device: str, size: int) -> Figures:
    """The rate of a product of two square matrices in bf16: what the card does at best."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(3 + ROUNDS):
        wait(device)
        started = time.perf_counter()
        for _ in range(10):
            a @ b
        wait(device)
        seconds.append((time.perf_counter() - started) / 10)
    return {WORK: 2 * size**3 / statistics.median(seconds[3:]) / 1e12}


def generation(device: str, shape: Shape, texts: int, tokens: int) -> Figures:
    """The speed of generating some texts at once, in fp32 as for the samples of `evaluate`."""
    set_up(1)
    model = make_model(shape, "qwen3", load_params(SETTINGS), tie_embeddings=True)
    network = for_inference(model.to(device).eval())
    sampling = Sampling(tokens, 0.8, 50)
    speeds = []
    for number in range(1 + ROUNDS):
        generators = [generator(number, f"text {index}") for index in range(texts)]
        started = time.perf_counter()
        found = write(network, [[0]] * texts, sampling, generators)
        wait(device)
        speeds.append(sum(map(len, found)) / (time.perf_counter() - started))
    return {SPEED: statistics.median(speeds[1:])}


def wait(device: str) -> None:
    """Wait until the GPU has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def nanogpt(checkout: Path, patience: float) -> Figures:
    """The speed of nanoGPT's bench.py, on random data: bf16, compiled, fused AdamW.

    Raises:
        RuntimeError: it fails, or prints no time.
    """
    done = subprocess.run(
        [sys.executable, "bench.py", "--real_data=False"],
        cwd=checkout, capture_output=True, text=True, check=False, timeout=patience,
    )  # fmt: skip
    found = re.search(r"time per iteration: ([\d.]+)ms", done.stdout)
    if done.returncode or found is None:
        end = (done.stderr or done.stdout)[-500:]
        raise RuntimeError(f"bench.py ended with status {done.returncode}: {end}")
    return {SPEED: GPT2.tokens / (float(found[1]) / 1000)}


def all_speeds(
    device: str, small: bool, checkout: Path | None, patience: float
) -> dict[str, Callable[[], Figures]]:
    """What is timed, by name.

    Args:
        small: a tiny model, to try the program on a CPU.
        checkout: of nanoGPT; without one it is not timed.
        patience: seconds after which nanoGPT is stopped.
    """
    shape, steps, tokens, size = (TINY, 3, 8, 64) if small else (GPT2, 60, 256, 8192)
    found = {
        "product": lambda: product(device, size),
        "training, AdamW": lambda: training(device, shape, steps, "adamw"),
        "training, Muon": lambda: training(device, shape, steps, "muon"),
        "one text": lambda: generation(device, shape, 1, tokens),
        "64 texts": lambda: generation(device, shape, 64, tokens),
    }
    if checkout is not None:
        found["nanoGPT"] = lambda: nanogpt(checkout, patience)
    return found
