"""Score the trained model on the test split and generate samples.

No other stage reads the test split.
"""

import argparse
from pathlib import Path

from tinyllm.experiments.command import run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model to read")
    parser.add_argument(
        "--train", type=Path, required=True, help="folder of the training split to read"
    )
    parser.add_argument("--test", type=Path, required=True, help="folder of the test split to read")
    parser.add_argument(
        "--losses", type=Path, required=True, help="file of per-token losses to write"
    )
    parser.add_argument("--reports", type=Path, required=True, help="folder of reports to write")
    args = parser.parse_args()

    from tinyllm.common.unchanged import MadeFrom

    inputs = [args.model, args.train, args.test]
    keys = ["seed", "evaluate", "hardware.device", "hardware.threads"]
    made_from = MadeFrom("evaluate", inputs, args.params, keys)

    from tinyllm.common.files import publish_file, publish_folder, sha256_of
    from tinyllm.compute import device_for, set_up, threads_for
    from tinyllm.data.token_store import read_split
    from tinyllm.evaluation import final_scores
    from tinyllm.experiments.provenance import read_origin
    from tinyllm.models.folder import WEIGHTS, load_model
    from tinyllm.settings.load import load_params
    from tinyllm.tracking.journal import Journal

    params = load_params(args.params)
    device = device_for(params.hardware.device)
    set_up(threads_for(params.hardware.threads))
    model, tokenizer = load_model(args.model)
    model.to(device)
    train, test = read_split(args.train), read_split(args.test)
    header = final_scores.header(params, test, sha256_of(args.model / WEIGHTS), read_origin())
    with Journal(header, params.runtime) as journal:
        scores, predictions = final_scores.predict_test(model, tokenizer, test, params.evaluate)
        baselines = final_scores.baseline_scores(tokenizer, train, test)
        samples = final_scores.write_samples(model, tokenizer, params.evaluate, params.seed)
        with (
            publish_file(args.losses) as losses,
            publish_folder(args.reports) as reports,
            made_from,
        ):
            final_scores.write_losses(losses, predictions)
            final_scores.write_report(reports, scores, baselines, samples)
        journal.metrics(0, {f"test/{name}": value for name, value in scores.as_dict().items()})
        journal.metrics(0, {f"baseline/{name}_bits_per_byte": v for name, v in baselines.items()})
        journal.file(args.reports, f"reports/{args.reports.name}")
    print(
        f"evaluate: {scores.bits_per_byte:.4f} bits/byte on {scores.tokens:,} test tokens "
        f"(loss {scores.loss:.4f}, accuracy {scores.accuracy:.1%}); "
        + ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())
    )
    for sample in samples[:1]:
        print(f"evaluate: {args.model} generates:\n\n{sample.prompt}{sample.text}\n")


if __name__ == "__main__":
    run_stage(main)
