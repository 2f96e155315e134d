"""Sort the tokens into training, validation and test arrays."""

import argparse
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from tinyllm.experiments.command import run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path, required=True, help="folder of tokens to read")
    parser.add_argument("--train", type=Path, required=True, help="folder to write")
    parser.add_argument("--validation", type=Path, required=True, help="folder to write")
    parser.add_argument("--test", type=Path, required=True, help="folder to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args()

    from tinyllm.common.unchanged import MadeFrom

    made_from = MadeFrom("split", [args.tokens])

    from tinyllm.common.files import publish_file, publish_folder, write_json
    from tinyllm.common.units import megabytes
    from tinyllm.data.split_rule import SPLITS
    from tinyllm.data.token_store import write_splits

    with ExitStack() as stack:
        folders = {s: stack.enter_context(publish_folder(getattr(args, s))) for s in SPLITS}
        summary = stack.enter_context(publish_file(args.summary))
        stack.enter_context(made_from)
        summaries = write_splits(args.tokens, folders)
        write_json(summary, {split: asdict(summaries[split]) for split in SPLITS})
    total = sum(summary.bytes for summary in summaries.values())
    for split, held in summaries.items():
        print(
            f"split: {split:<10} {held.documents:>9,} documents {held.tokens:>13,} tokens "
            f"{megabytes(held.bytes):>10} {held.bytes / total:6.1%}"
        )


if __name__ == "__main__":
    run_stage(main)
