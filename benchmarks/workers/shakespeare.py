"""Trains on a text's first 90 % from scratch and scores the last 10 %, in one process.

Prints one line of JSON: bits per byte of the whole last part, and the seconds of training alone.
With --curve, a line for each evaluation before it: seconds of the process and bits per byte.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.workers.clock import Clock
from benchmarks.workers.shapes import TRAINING_SHARE
from benchmarks.workers.tinyllm import SETTINGS, Silent
from tinyllm.common import console
from tinyllm.evaluation.scores import Scores
from tinyllm.settings.load import load_params
from tinyllm.training.history import TRAIN, VALIDATION

# Differences from params.yaml. "fast" takes little time; "long" takes as long as its peer.
RECIPES: dict[str, dict[str, object]] = {
    "fast": {
        "architecture": "nanochat", "n_layer": 1, "context_length": 64, "batch_size": 32,
        "max_steps": 21, "optimizer": "muon", "betas": [0.7, 0.85], "momentum": 0.7,
        "schedule": "linear", "learning_rate": 0.025, "embedding_rate_multiplier": 30.0,
        "warmup_steps": 2, "vocab_size": 3072,
    },
    "long": {
        "architecture": "nanochat", "n_layer": 3, "context_length": 128, "batch_size": 12,
        "max_steps": 1500, "optimizer": "muon", "momentum": 0.95, "schedule": "linear",
        "learning_rate": 0.012, "embedding_rate_multiplier": 3.0, "warmup_steps": 20,
        "vocab_size": 2048, "weight_decay": 0.4,
    },
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--text", type=Path, required=True)
    options.add_argument("--recipe", choices=RECIPES, required=True)
    options.add_argument("--seed", type=int, default=1337)
    options.add_argument("--set", nargs="*", default=[], help="changes to the recipe, key=value")
    options.add_argument("--curve", type=int, metavar="STEPS", help="steps between evaluations")
    options.add_argument("--started", type=float, help="when the process started, for --curve")
    args = options.parse_args()
    recipe = RECIPES[args.recipe] | {
        key: json.loads(value) for key, value in (change.split("=") for change in args.set)
    }
    text = args.text.read_text(encoding="utf-8")
    watcher = Curve(args.started) if args.curve else Silent()
    print(json.dumps(learn(text, recipe, args.seed, watcher, args.curve)))


class Curve(Silent):
    """Prints each evaluation's time, without the time of evaluations, and its score."""

    def __init__(self, started: float) -> None:
        self.clock = Clock(started)

    def step(self, step: int, values: dict[str, float]) -> None:
        del step, values
        self.clock.stop()

    def evaluation(self, step: int, scores: dict[str, Scores], best: bool) -> None:
        del step, best
        print(json.dumps([self.clock.seconds, scores[VALIDATION].bits_per_byte]), flush=True)
        self.clock.go_on()


def learn(
    text: str, recipe: dict[str, object], seed: int, watcher: Silent, interval: int | None = None
) -> dict[str, float]:
    """Train on a text with a recipe. Returns the scores of its last part.

    Args:
        interval: steps between evaluations; None: the last one alone is made.
    """
    from tinyllm.compute import choose, generator, set_up
    from tinyllm.data.token_store import Tokens
    from tinyllm.data.tokenizer import Tokenizer
    from tinyllm.evaluation.scores import Windows, make_windows
    from tinyllm.models.registry import TinyLLM
    from tinyllm.training.data import model_config
    from tinyllm.training.dataset import Batches, loader
    from tinyllm.training.loop import train
    from tinyllm.training.optimizers.registry import make_optimizer
    from tinyllm.training.state import TrainState

    params = load_params(SETTINGS)
    steps = recipe["max_steps"]
    assert isinstance(steps, int)
    changes = {**recipe, "eval_interval": interval or 1 << 40, "save": "last", "decay_steps": None}
    vocab_size = changes.pop("vocab_size")
    assert isinstance(vocab_size, int)
    settings = params.train.model_validate({**params.train.model_dump(), **changes})
    cut = int(len(text) * TRAINING_SHARE)
    tokenizer = Tokenizer.train([text[:cut]], vocab_size)
    ids, held_out = tokenizer.encode(text[:cut]), tokenizer.encode(text[cut:])

    compute = choose(params.hardware)
    set_up(compute.threads)
    shape = model_config(settings, tokenizer.vocab_size, tokenizer.end_of_text)
    model = TinyLLM(shape, generator(seed, "weights"))
    model.compute_dtype = compute.dtype
    state = TrainState(model, make_optimizer(model, settings), step=1)  # step 0 would evaluate
    batches = Batches(ids, settings.context_length, settings.batch_size, seed)
    items = iter(loader(batches, 1, steps, num_workers=0, pin_memory=False))

    def windows(ids: Tokens, limit: int | None = None) -> Windows:
        length = settings.context_length
        return make_windows(
            ids, tokenizer.token_bytes(), tokenizer.end_of_text, length, limit=limit
        )

    evaluation = {TRAIN: windows(ids, limit=1), VALIDATION: windows(held_out)}
    started = time.perf_counter()
    train(state, items, evaluation, settings, seed, watcher, Silent())
    return {
        "bits_per_byte": state.history.evaluations.rows()[-1]["val_bits_per_byte"],
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    console.run(main)
