"""What must hold on any device: the same bytes after an interruption, and the CPU's results.

Each check raises AssertionError with a reason if it does not hold. `python -m benchmarks.gpu` runs
them on CUDA; the tests run them on the CPU.
"""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.workers.tinyllm import SETTINGS, Silent
from tinyllm.common.fingerprint import Fingerprint
from tinyllm.compute import choose, generator, set_up
from tinyllm.evaluation.scores import make_windows, score
from tinyllm.generation.network import for_inference
from tinyllm.generation.rows import Rows
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.hardware import Hardware
from tinyllm.settings.load import load_params
from tinyllm.settings.train import Train
from tinyllm.training.checkpoints.checkpoint import Checkpoints, Loaded
from tinyllm.training.compiled import compile_training
from tinyllm.training.data import model_config
from tinyllm.training.dataset import Batches, loader
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.distributed.rendezvous import joined
from tinyllm.training.history import TRAIN, VALIDATION
from tinyllm.training.loop import train
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

STEPS, STOP = 12, 5
SEED = 1337
VOCABULARY = 256


class Stopped(Exception):
    """The training was stopped after a step, as by a signal."""


class Keeper(Silent):
    """Keeps the losses of a training, and stops it after a step.

    Args:
        stop: steps to train; None to train to the end.
        checkpoints: where the state is saved then.
    """

    def __init__(self, stop: int | None = None, checkpoints: Checkpoints | None = None) -> None:
        self.stop, self.checkpoints = stop, checkpoints
        self.losses: list[float] = []

    def step(self, step: int, values: dict[str, float]) -> None:
        del step
        self.losses.append(values["loss"])

    def between_steps(self, state: TrainState) -> None:
        if state.step == self.stop:
            if self.checkpoints is not None:
                self.checkpoints.save(state, wait=True)
            raise Stopped


def settings_of(optimizer: str = "adamw", dropout: float = 0.1) -> Train:
    """The settings of a short training."""
    changes = {
        "n_layer": 2, "n_head": 4, "n_kv_head": 2, "d_model": 64, "context_length": 32,
        "dropout": dropout, "optimizer": optimizer, "batch_size": 8, "micro_batch_size": 3,
        "max_steps": STEPS, "warmup_steps": 2, "eval_interval": 4, "save": "best",
    }  # fmt: skip
    return Train.model_validate(load_params(SETTINGS).train.model_dump() | changes)


def model_of(settings: Train) -> Model:
    """A model with random weights, on the CPU."""
    return TinyLLM(model_config(settings, VOCABULARY, 0), generator(SEED, "weights"))


def ids(count: int) -> np.ndarray:
    """Token ids (count,) with something to learn: each depends on the one before."""
    random = np.random.default_rng(1)
    steps = random.choice([1, 3, 7], count)
    return (np.cumsum(steps) % VOCABULARY).astype(np.uint16)


def trained(
    hardware: Hardware,
    optimizer: str = "adamw",
    keeper: Keeper | None = None,
    restored: Loaded | None = None,
    processes: Processes = ALONE,
) -> TrainState:
    """Train the model of a few steps; a checkpoint continues an earlier training."""
    compute = choose(hardware, processes)
    set_up(compute.threads)
    settings = settings_of(optimizer)
    model = model_of(settings)
    model.compute_dtype = compute.dtype
    processes.share_model(model, compute.device)
    if compute.compiled:
        compile_training(model)
    state = TrainState(model, make_optimizer(model, settings))
    if restored is not None:
        state.restore(restored.tensors, restored.facts, processes)
    batches = Batches(
        ids(4096), settings.context_length, settings.batch_size, SEED,
        rank=processes.rank, world_size=processes.size,
    )  # fmt: skip
    items = iter(loader(batches, state.step, STEPS, num_workers=0, pin_memory=True))
    text = ids(300)
    windows = make_windows(text, np.ones(VOCABULARY, np.int64), 0, settings.context_length)
    keeper = keeper or Keeper()
    evaluation = {TRAIN: windows, VALIDATION: windows}
    train(state, items, evaluation, settings, SEED, keeper, keeper, processes)
    return state


def same_after_an_interruption(hardware: Hardware, optimizer: str) -> None:
    """A training that was stopped, saved and resumed has the bytes of one that was not."""
    whole = trained(hardware, optimizer).tensors()
    compute = choose(hardware, ALONE)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), Fingerprint({"check": optimizer}), compute)
        with suppress(Stopped):
            trained(hardware, optimizer, Keeper(STOP, checkpoints))
        loaded = checkpoints.newest()
    assert loaded is not None and loaded.facts["step"] == STOP
    resumed = trained(hardware, optimizer, restored=loaded).tensors()
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert_same_bits(name, tensor, resumed[name])


def assert_same_bits(name: str, one: Tensor, other: Tensor) -> None:
    """Raise if two arrays differ in any bit."""
    a, b = one.detach().cpu(), other.detach().cpu()
    assert a.dtype == b.dtype and a.shape == b.shape, name
    same = a.reshape(-1).view(torch.uint8).equal(b.reshape(-1).view(torch.uint8))
    assert same, f"{name}: {int((a != b).sum())} of {a.numel()} values differ"


def one_process_of_ddp(hardware: Hardware) -> None:
    """A process group of one trains as a process without one does."""
    alone = trained(hardware)
    with group_of_one(hardware) as processes:
        grouped = trained(hardware, processes=processes)
    weights = grouped.model.state_dict()
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-5, msg=name)


@contextmanager
def group_of_one(hardware: Hardware) -> Iterator[Processes]:
    """A process group in which this process is alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= given
    try:
        with joined(hardware) as processes:
            yield processes
    finally:
        for name in given:
            del os.environ[name]


def bf16_follows_fp32(hardware: Hardware) -> None:
    """In bf16, the losses are those of fp32 to two percent."""
    losses = {}
    for precision in ("fp32", "bf16"):
        keeper = Keeper()
        trained(hardware.model_copy(update={"precision": precision}), keeper=keeper)
        losses[precision] = np.array(keeper.losses)
    assert losses["fp32"][-1] < losses["fp32"][0]
    apart = np.abs(losses["bf16"] / losses["fp32"] - 1).max()
    assert apart < 0.02, f"{apart:.1%} apart"


@torch.no_grad()
def the_cpus_logits(hardware: Hardware) -> None:
    """The logits, with a cache and without, are the CPU's to 1e-2, and so are the scores."""
    device = choose(hardware).device
    set_up(1)
    model = model_of(settings_of(dropout=0.0)).eval()
    tokens = torch.from_numpy(ids(64).astype(np.int64))
    for weight in model.parameters():  # some are zero at first
        weight.add_(torch.empty_like(weight).normal_(std=0.02, generator=generator(2, "noise")))
    prompts = tokens.view(4, 16)
    expected = model(prompts)
    windows = make_windows(
        tokens.numpy(), np.ones(VOCABULARY, np.int64), 0, model.config.context_length
    )
    expected_loss = score(model, windows).loss
    model.to(device)
    assert_close(model(prompts.to(device)), expected, "whole texts")
    rows = Rows(for_inference(model), prompts[:, :5].tolist())
    for place in range(5, 16):
        assert_close(rows.logits, expected[:, place - 1], f"with a cache, at {place}")
        rows.append(prompts[:, place].tolist())
    assert abs(score(model, windows).loss - expected_loss) < 1e-3


def assert_close(found: Tensor, expected: Tensor, what: str) -> None:
    """Raise if two arrays differ by more than a hundredth."""
    apart = float((found.cpu() - expected).abs().max())
    assert apart < 1e-2, f"{what}: logits differ by {apart:.3g}"


def all_checks(device: str, compiled: bool) -> dict[str, Callable[[], None]]:
    """The checks by name.

    Args:
        device: "cuda" or "cpu".
        compiled: whether to check trainings with torch's compiler too.
    """
    plain = load_params(SETTINGS).hardware.model_copy(
        update={"device": device, "precision": "bf16", "compile": False, "threads": 1}
    )
    quick = plain.model_copy(update={"compile": True})
    found: dict[str, Callable[[], None]] = {
        "logits and scores": lambda: the_cpus_logits(plain),
        "bf16 against fp32": lambda: bf16_follows_fp32(plain),
        "resume, AdamW": lambda: same_after_an_interruption(plain, "adamw"),
        "resume, Muon": lambda: same_after_an_interruption(plain, "muon"),
        "a process group of one": lambda: one_process_of_ddp(plain),
    }
    if compiled:
        found |= {
            "resume, AdamW, compiled": lambda: same_after_an_interruption(quick, "adamw"),
            "resume, Muon, compiled": lambda: same_after_an_interruption(quick, "muon"),
        }
    return found
