"""A training from its inputs to its outputs."""

from collections.abc import Callable
from pathlib import Path

from tinyllm.common.files import publish_folder
from tinyllm.common.unchanged import MadeFrom
from tinyllm.compute import choose, set_up
from tinyllm.model_card.publish import describe
from tinyllm.models.folder import save_model
from tinyllm.settings.load import Params
from tinyllm.tracking.origin import Origin
from tinyllm.training import report
from tinyllm.training.checkpoints import identity
from tinyllm.training.checkpoints.resume import resumable
from tinyllm.training.compiled import compile_training
from tinyllm.training.data import load_data
from tinyllm.training.display.watch import watch
from tinyllm.training.distributed.processes import Processes
from tinyllm.training.initial import initial_model
from tinyllm.training.loop import train
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState


def train_model(
    params: Params, made_from: MadeFrom, model_folder: Path, reports: Path,
    read_origin: Callable[[], Origin], processes: Processes,
) -> None:  # fmt: skip
    """Train a model in one process of a training; only the first process writes files.

    Args:
        made_from: its inputs are the tokenizer, the training split, the validation split and the
            summary of all splits.
        model_folder, reports: folders to write.
        read_origin: reads where the run comes from, for its record.
    """
    # The summary of the splits describes the model and decides no weight: after a correction of
    # download.licence, say, the finished training is found again.
    *deciding, _ = made_from.inputs
    training = identity.take(params, "stages.train", deciding)
    compute = choose(params.hardware, processes, params.train.flops)
    set_up(compute.threads)
    identity.check_same(training, compute, processes)
    data = load_data(params, *made_from.inputs, processes=processes)
    model = initial_model(params, data.model_config, data.tokenizer)
    model.compute_dtype = compute.dtype
    processes.share_model(model, compute.device)
    if compute.compiled:
        compile_training(model)
    state = TrainState(model, make_optimizer(model, params.train))
    origin = read_origin() if processes.first else Origin()
    with (
        resumable(state, training, compute, params, processes) as saver,
        watch(state, data, compute, params, saver.bookmark, origin, processes) as watcher,
    ):
        batches = data.batches(state.step, params)
        train(state, batches, data.evaluation, params.train, params.seed, watcher, saver, processes)
        whole = processes.whole_model(model)
        if not processes.first:
            return
        with publish_folder(model_folder) as folder, publish_folder(reports) as new, made_from:
            save_model(folder, whole, data.tokenizer)
            describe(folder, report.facts(state, data, compute, params))
            report.write(new, state)
        watcher.keep(model_folder, reports)
