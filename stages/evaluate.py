"""Score the trained model on the test split and generate samples.

No other stage reads the test split.
"""

from tinyllm.experiments.command import read_paths, run_stage


def main() -> None:
    args = read_paths(
        __doc__,
        params="params.yaml",
        model="folder of the model to read",
        training="folder of the training's reports to read",
        train="folder of the training split to read",
        test="folder of the test split to read",
        losses="file of per-token losses to write",
        reports="folder of reports to write",
        page="page about the run to write",
    )

    from tinyllm.common.unchanged import MadeFrom

    inputs = [args.model, args.training, args.train, args.test]
    keys = ["seed", "evaluate", "hardware.device", "hardware.threads"]
    made_from = MadeFrom("evaluate", inputs, args.params, keys)

    from tinyllm.common.files import publish_file, publish_folder, sha256_of
    from tinyllm.compute import device_for, set_up, threads_for
    from tinyllm.data.token_store import read_split
    from tinyllm.evaluation import final_scores, model_card, record
    from tinyllm.experiments.provenance import read_origin
    from tinyllm.model_card.facts import read_facts
    from tinyllm.models.folder import WEIGHTS, load_model
    from tinyllm.report_page import content, page
    from tinyllm.report_page.curves import read_curves
    from tinyllm.serving.record import record_model
    from tinyllm.settings.load import load_params
    from tinyllm.tracking.journal import Journal

    params = load_params(args.params)
    device = device_for(params.hardware.device)
    set_up(threads_for(params.hardware.threads))
    model, tokenizer = load_model(args.model)
    model.to(device)
    train, test = read_split(args.train), read_split(args.test)
    training, weights_sha256 = read_facts(args.model), sha256_of(args.model / WEIGHTS)
    curves = read_curves(args.training, training.saved_step)
    header = record.header(params, test, weights_sha256, read_origin())
    with Journal(header, params.runtime) as journal:
        results, predictions = final_scores.evaluate(
            model, tokenizer, train, test, training, weights_sha256, params.evaluate, params.seed
        )
        with (
            publish_file(args.losses) as losses,
            publish_folder(args.reports) as new,
            publish_file(args.page) as new_page,
            made_from,
        ):
            final_scores.write_losses(losses, predictions)
            final_scores.write_report(new, results)
            model_card.write(new, results, args.training)
            page.write(new_page, content.gather(results, curves, args.model))
        record.record(journal, args.reports, args.page)
        bits = results.scores.bits_per_byte
        record_model(journal, args.model, args.losses, test, bits, params.evaluate)
    for line in final_scores.lines(results, args.model):
        print(f"evaluate: {line}")


if __name__ == "__main__":
    run_stage(main)
