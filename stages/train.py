"""Train the model on the training split and evaluate it on the validation split."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tinyllm.experiments.command import run_stage

if TYPE_CHECKING:
    from tinyllm.common.unchanged import MadeFrom
    from tinyllm.settings.load import Params
    from tinyllm.training.distributed.processes import Processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder to read")
    parser.add_argument("--train", type=Path, required=True, help="training split to read")
    parser.add_argument("--validation", type=Path, required=True, help="validation split to read")
    parser.add_argument("--splits", type=Path, required=True, help="summary of all splits to read")
    parser.add_argument("--model", type=Path, required=True, help="model folder to write")
    parser.add_argument("--reports", type=Path, required=True, help="folder of reports to write")
    args = parser.parse_args()

    from tinyllm.common.unchanged import MadeFrom

    inputs = [args.tokenizer, args.train, args.validation, args.splits]
    made_from = MadeFrom("train", inputs, args.params, ["seed", "train", "hardware"])

    from tinyllm.settings.load import load_params
    from tinyllm.training.distributed import launch

    params = load_params(args.params)
    launch.run(
        lambda processes: train_model(args, params, made_from, processes),
        params.hardware,
        "stages.train",
    )


def train_model(
    args: argparse.Namespace, params: "Params", made_from: "MadeFrom", processes: "Processes"
) -> None:
    """Train the model in one process of a training; only the first process writes files."""
    from tinyllm.common.files import publish_folder
    from tinyllm.compute import choose, generator, set_up
    from tinyllm.experiments.provenance import read_origin
    from tinyllm.models.folder import save_model
    from tinyllm.models.registry import TinyLLM
    from tinyllm.tracking.origin import Origin
    from tinyllm.training import report
    from tinyllm.training.checkpoints import identity
    from tinyllm.training.checkpoints.resume import resumable
    from tinyllm.training.compiled import compile_training
    from tinyllm.training.data import load_data
    from tinyllm.training.display.watch import watch
    from tinyllm.training.loop import train
    from tinyllm.training.optimizers.registry import make_optimizer
    from tinyllm.training.state import TrainState

    training = identity.take(params, "stages.train", made_from.inputs)
    compute = choose(params.hardware, processes)
    set_up(compute.threads)
    identity.check_same(training, compute, processes)
    paths = args.tokenizer, args.train, args.validation, args.splits
    data = load_data(params, *paths, processes=processes)
    model = TinyLLM(data.model_config, generator(params.seed, "weights"))
    model.compute_dtype = compute.dtype
    processes.share_model(model, compute.device)
    if compute.compiled:
        compile_training(model)
    origin = read_origin() if processes.first else Origin()
    state = TrainState(model, make_optimizer(model, params.train))
    with (
        resumable(state, training, compute, params, processes) as saver,
        watch(state, data, compute, params, saver.bookmark, origin, processes) as watcher,
    ):
        batches = data.batches(state.step, params)
        train(state, batches, data.evaluation, params.train, params.seed, watcher, saver, processes)
        whole = processes.whole_model(model)
        if not processes.first:
            return
        with (
            publish_folder(args.model) as model_folder,
            publish_folder(args.reports) as reports,
            made_from,
        ):
            save_model(model_folder, whole, data.tokenizer)
            report.write(reports, state)
        watcher.keep(args.model, args.reports)


if __name__ == "__main__":
    run_stage(main)
