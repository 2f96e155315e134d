"""A training on data that the pipeline has prepared, and its score on the test split."""

from pathlib import Path
from typing import Any

from benchmarks.workers.tinyllm import SETTINGS, Silent
from tinyllm.compute import choose, set_up
from tinyllm.data.token_store import read_split
from tinyllm.evaluation.scores import Scores, make_windows, score
from tinyllm.models.model import Model
from tinyllm.settings.load import Params, load_params
from tinyllm.training.data import TrainingData, load_data
from tinyllm.training.initial import initial_model
from tinyllm.training.loop import train
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState


def settings(changes: dict[str, Any], seed: int, threads: int | None = None) -> Params:
    """The settings of params.yaml, with changes to its section `train`."""
    params = load_params(SETTINGS)
    section = params.train.model_validate(params.train.model_dump() | changes)
    hardware = params.hardware.model_copy(update={"threads": threads})
    return params.model_copy(update={"train": section, "seed": seed, "hardware": hardware})


def load(params: Params, folder: Path) -> TrainingData:
    """The data in a folder that has data/ and reports/ of the pipeline."""
    data = folder / "data"
    return load_data(
        params, data / "tokenizer", data / "splits/train", data / "splits/validation",
        folder / "reports/splits.json",
    )  # fmt: skip


def train_and_score(params: Params, folder: Path, watch: Silent) -> Scores:
    """Train from scratch. Returns the scores of the test split, made as `evaluate` makes them."""
    compute = choose(params.hardware)
    set_up(compute.threads)
    loaded = load(params, folder)
    model: Model = initial_model(params, loaded.model_config, loaded.tokenizer)
    model.compute_dtype = compute.dtype
    state = TrainState(model, make_optimizer(model, params.train))
    batches = loaded.batches(0, params)
    train(state, batches, loaded.evaluation, params.train, params.seed, watch, watch)
    model.compute_dtype = model.head_weight.dtype  # as `evaluate` does
    context = params.train.context_length
    windows = make_windows(
        read_split(folder / "data/splits/test").tokens, loaded.tokenizer.token_bytes(),
        loaded.tokenizer.end_of_text, context, stride=min(params.evaluate.stride or 1, context),
    )  # fmt: skip
    return score(model, windows)
