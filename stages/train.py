"""Train the model on the training split, watching the validation split."""

import argparse
from pathlib import Path

from tinyllm import console


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

    from tinyllm import runtime
    from tinyllm.export import WEIGHTS, save_model
    from tinyllm.model import TinyLLM
    from tinyllm.params import load_params
    from tinyllm.training import report
    from tinyllm.training.data import load_data
    from tinyllm.training.optimizer import make_optimizer
    from tinyllm.training.trainer import train
    from tinyllm.training.watch import watch

    params = load_params(args.params)
    settings = params.train.resolve()
    compute = runtime.choose(params.hardware)
    data = load_data(
        params,
        tokenizer=args.tokenizer,
        train=args.train,
        validation=args.validation,
        summary=args.splits,
    )
    model = TinyLLM(data.model_config, runtime.generator(params.seed, "weights"))
    model.to(compute.device).compute_dtype = compute.dtype
    optimizer = make_optimizer(model, settings)
    with watch(params, compute, data, model) as watcher:
        history, best = train(
            model, optimizer, data.batches, data.evaluation, settings, params.seed, watcher
        )
        save_model(args.model, model, data.tokenizer)
        report.write(args.reports, history, best, model)
        watcher.keep(args.model, WEIGHTS, args.reports)


if __name__ == "__main__":
    console.run(main)
