"""tinyllm, as it ships: its own loop, data and settings."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.pairs import Rounds, serve
from benchmarks.workers.shapes import Shape, parser
from tinyllm.common.params import Params, load_params
from tinyllm.model import runtime
from tinyllm.model.evaluation import Scores, make_windows, predict
from tinyllm.model.transformer import ModelConfig, TinyLLM
from tinyllm.scoring.generation import Sampling, generate
from tinyllm.training.dataset import Batches, loader
from tinyllm.training.optimizer import make_optimizer
from tinyllm.training.state import TrainState
from tinyllm.training.trainer import train

SETTINGS = Path(__file__).resolve().parents[2] / "params.yaml"
FOREVER = 1 << 40


class Silent:
    """Watches a training and tells nobody; saves nothing."""

    def step(self, step: int, values: dict[str, float]) -> None: ...
    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None: ...
    def between_steps(self, state: TrainState) -> None: ...


class Pacer(Silent):
    """Holds a training between two rounds."""

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds

    def between_steps(self, state: TrainState) -> None:
        self.rounds.after(state.step)


def main() -> None:
    options = parser()
    options.add_argument("--work", choices=["train", "score", "generate"], default="train")
    options.add_argument("--precision", default="auto")
    options.add_argument("--sequences", type=int, default=1, help="to generate at once")
    args = options.parse_args()
    shape: Shape = args.shape
    params = load_params(SETTINGS)
    compute = runtime.choose(params.hardware.model_copy(update={"precision": args.precision}))
    model = make_model(shape, params).to(compute.device)
    model.compute_dtype = compute.dtype
    if args.work == "train":
        run_training(model, shape, params, args.steps)
    elif args.work == "score":
        run_scoring(model, shape)
    else:
        run_generation(model, shape, args.sequences)


def make_model(shape: Shape, params: Params) -> TinyLLM:
    names = {field.name for field in dataclasses.fields(ModelConfig)} - {"dropout"}
    config = ModelConfig(**{name: getattr(shape, name) for name in names})
    return TinyLLM(config, runtime.generator(params.seed, "weights"))


def run_training(model: TinyLLM, shape: Shape, params: Params, steps: int) -> None:
    settings = params.train.model_copy(
        update={"eval_interval": FOREVER, "max_steps": FOREVER, "batch_size": shape.batch_size}
    )
    state = TrainState(model, make_optimizer(model, settings), step=1)
    text = shape.text().numpy().astype(np.uint16)
    batches = Batches(text, shape.context_length, shape.batch_size, params.seed)
    items = iter(loader(batches, 1, FOREVER, num_workers=0, pin_memory=False))
    pacer = Pacer(Rounds(shape.tokens, steps))
    pacer.between_steps(state)
    train(state, items, {}, settings, params.seed, pacer, pacer)


def run_scoring(model: TinyLLM, shape: Shape) -> None:
    text = shape.text()[: 1 << 16].numpy()
    windows = make_windows(text, np.ones(shape.vocab_size, np.int64), 0, shape.context_length)

    def work() -> float:
        started = time.perf_counter()
        predict(model, windows, 32)
        return len(text) / (time.perf_counter() - started)

    serve(work)


def run_generation(model: TinyLLM, shape: Shape, sequences: int) -> None:
    model.compute_dtype = torch.float32  # as `evaluate` writes its samples
    prompt = torch.zeros(sequences, 1, dtype=torch.int64)
    sampling = Sampling(shape.context_length - 1, 0.8, 50)

    def work() -> float:
        started = time.perf_counter()
        written = list(generate(model, prompt, sampling, runtime.generator(1, "benchmark")))
        return sequences * len(written) / (time.perf_counter() - started)

    serve(work)


if __name__ == "__main__":
    main()
