"""Runs tinyllm with its own loop, data and settings."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.pairs import Rounds, serve
from benchmarks.workers.shapes import Shape, parser
from tinyllm.compute import choose, generator, set_up
from tinyllm.evaluation.scores import Scores, make_windows, predict
from tinyllm.generation.network import for_inference
from tinyllm.generation.sampling import Sampling, write
from tinyllm.models.config import ModelConfig
from tinyllm.models.folder import load_network
from tinyllm.models.model import Model
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.load import Params, load_params
from tinyllm.training.compiled import compile_training
from tinyllm.training.dataset import Batches, loader
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.distributed.rendezvous import joined
from tinyllm.training.loop import train
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

SETTINGS = Path(__file__).resolve().parents[2] / "params.yaml"
FOREVER = 1 << 40


class Silent:
    """A watcher and saver that does nothing."""

    def step(self, step: int, values: dict[str, float]) -> None: ...
    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None: ...
    def between_steps(self, state: TrainState) -> None: ...


class Pacer(Silent):
    """Pauses a training between two rounds."""

    def __init__(self, rounds: Rounds, processes: Processes) -> None:
        self.rounds, self.processes = rounds, processes

    def between_steps(self, state: TrainState) -> None:
        if self.processes.first:
            self.rounds.after(state.step)


def main() -> None:
    options = parser()
    options.add_argument("--work", choices=["train", "score", "generate"], default="train")
    options.add_argument("--precision", default="auto")
    options.add_argument("--architecture", default="qwen3", help="architecture of the network")
    options.add_argument("--optimizer", default="adamw", help="optimizer; peers use AdamW")
    options.add_argument("--compile", action="store_true", help="compile, even on a CPU")
    options.add_argument("--processes", type=int, default=1, help="processes that share each batch")
    options.add_argument("--threads", type=int, help="threads per process")
    options.add_argument("--sequences", type=int, default=1, help="texts to generate at once")
    options.add_argument("--model", type=Path, help="a model folder, instead of a shape")
    args = options.parse_args()
    shape: Shape = args.shape
    params = load_params(SETTINGS)
    asked = {"precision": args.precision, "processes": args.processes, "threads": args.threads}
    if args.compile:
        asked["compile"] = True
    params = params.model_copy(
        update={
            "hardware": params.hardware.model_copy(update=asked),
            "train": params.train.model_copy(update={"optimizer": args.optimizer}),
        }
    )
    compute = choose(params.hardware, ALONE if args.work == "train" else None)
    set_up(compute.threads)
    if args.model:
        model = load_network(args.model).to(compute.device)
    else:
        model = make_model(shape, args.architecture, params).to(compute.device)
    model.compute_dtype = compute.dtype
    if args.work == "train":
        with ranks_of(params) as processes:
            run_training(model, shape, params, args.steps, processes, compute.compiled)
    elif args.work == "score":
        run_scoring(model, shape)
    else:
        run_generation(model, args.sequences)


def make_model(
    shape: Shape, architecture: str, params: Params, *, tie_embeddings: bool = False
) -> Model:
    config = ModelConfig(
        architecture=architecture,
        vocab_size=shape.vocab_size,
        context_length=shape.context_length,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_kv_head=shape.n_head,
        d_model=shape.d_model,
        tie_embeddings=tie_embeddings,
    )
    return TinyLLM(config, generator(params.seed, "weights"))


@contextmanager
def ranks_of(params: Params) -> Iterator[Processes]:
    """The processes of a training; this one starts the others, which run the same command."""
    size = params.hardware.processes or 1
    if size == 1:
        yield ALONE
        return
    if "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
                       "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        for rank in range(1, size):
            command = [sys.executable, "-m", "benchmarks.workers.tinyllm", *sys.argv[1:]]
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             env=os.environ | {"RANK": str(rank)})  # fmt: skip
        os.environ["RANK"] = "0"
    with joined(params.hardware) as processes:
        yield processes


def run_training(
    model: Model, shape: Shape, params: Params, steps: int, processes: Processes, compiled: bool
) -> None:
    processes.share_model(model, model.device.type)
    settings = params.train.model_copy(
        update={"eval_interval": FOREVER, "max_steps": FOREVER, "batch_size": shape.batch_size}
    )
    if compiled:
        compile_training(model)
    state = TrainState(model, make_optimizer(model, settings), step=1)
    text = shape.text().numpy().astype(np.uint16)
    batches = Batches(
        text, shape.context_length, shape.batch_size, params.seed,
        rank=processes.rank, world_size=processes.size,
    )  # fmt: skip
    items = iter(loader(batches, 1, FOREVER, num_workers=0, pin_memory=False))
    pacer = Pacer(Rounds(shape.tokens, steps), processes)
    pacer.between_steps(state)
    train(state, items, {}, settings, params.seed, pacer, pacer, processes)


def run_scoring(model: Model, shape: Shape) -> None:
    text = shape.text()[: 1 << 16].numpy()
    windows = make_windows(text, np.ones(shape.vocab_size, np.int64), 0, shape.context_length)

    def work() -> float:
        started = time.perf_counter()
        predict(model, windows)
        return len(text) / (time.perf_counter() - started)

    serve(work)


def run_generation(model: Model, sequences: int) -> None:
    model.compute_dtype = torch.float32  # as for the samples of `evaluate`
    network = for_inference(model)
    sampling = Sampling(model.config.context_length - 1, 0.8, 50)

    def work() -> float:
        generators = [generator(1, f"text {index}") for index in range(sequences)]
        started = time.perf_counter()
        texts = write(network, [[0]] * sequences, sampling, generators)
        return sum(map(len, texts)) / (time.perf_counter() - started)

    serve(work)


if __name__ == "__main__":
    main()
