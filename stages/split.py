"""Sort the tokens into training, validation and test arrays."""

from contextlib import ExitStack

from tinyllm.experiments.command import read_paths, run_stage


def main() -> None:
    args = read_paths(
        __doc__,
        tokens="folder of tokens to read",
        train="folder of the training split to write",
        validation="folder of the validation split to write",
        test="folder of the test split to write",
        summary="JSON file with the size of each split to write",
    )

    from tinyllm.common.unchanged import MadeFrom

    made_from = MadeFrom("split", [args.tokens])

    from tinyllm.common.files import publish_file, publish_folder
    from tinyllm.common.units import megabytes
    from tinyllm.data.split_rule import SPLITS
    from tinyllm.data.splits_summary import write_summary
    from tinyllm.data.token_store import write_splits

    with ExitStack() as stack:
        folders = {s: stack.enter_context(publish_folder(getattr(args, s))) for s in SPLITS}
        summary = stack.enter_context(publish_file(args.summary))
        stack.enter_context(made_from)
        summaries = write_splits(args.tokens, folders)
        write_summary(summary, args.tokens, summaries)
    total = sum(summary.bytes for summary in summaries.values())
    for split, held in summaries.items():
        print(
            f"split: {split:<10} {held.documents:>9,} documents {held.tokens:>13,} tokens "
            f"{megabytes(held.bytes):>10} {held.bytes / total:6.1%}"
        )


if __name__ == "__main__":
    run_stage(main)
