"""Train the model on the training split and evaluate it on the validation split."""

from typing import TYPE_CHECKING

from tinyllm.experiments.command import read_paths, run_stage

if TYPE_CHECKING:
    from tinyllm.training.distributed.processes import Processes


def main() -> None:
    args = read_paths(
        __doc__,
        params="params.yaml",
        tokenizer="folder of the tokenizer to read",
        train="folder of the training split to read",
        validation="folder of the validation split to read",
        splits="summary of all splits to read",
        model="folder of the model to write",
        reports="folder of reports to write",
    )

    from tinyllm.common.unchanged import MadeFrom

    inputs = [args.tokenizer, args.train, args.validation, args.splits]
    made_from = MadeFrom("train", inputs, args.params, ["seed", "train", "hardware"])

    from tinyllm.experiments.provenance import read_origin
    from tinyllm.settings.init_from import base_model
    from tinyllm.settings.load import load_params
    from tinyllm.training.distributed import launch

    params = load_params(args.params)
    made_from.reads(base_model(params.train.init_from))

    def train(processes: "Processes") -> None:
        from tinyllm.training.run import train_model  # imports torch, which `launch` sets up

        train_model(params, made_from, args.model, args.reports, read_origin, processes)

    launch.run(train, params.hardware, "stages.train")


if __name__ == "__main__":
    run_stage(main)
