"""Download the corpus: documents in one folder, with a manifest that describes them."""

import argparse
from pathlib import Path

from tinyllm.experiments.command import run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml")
    parser.add_argument("--raw", type=Path, required=True, help="folder to write")
    args = parser.parse_args()

    from tinyllm.common.unchanged import MadeFrom

    made_from = MadeFrom("download", params=args.params, sections=["download"])

    from tinyllm.common.files import STATE_FOLDER, project_root, publish_folder
    from tinyllm.common.units import megabytes
    from tinyllm.data.sources.catalogue import check_source
    from tinyllm.data.sources.corpus import fetch_corpus
    from tinyllm.data.sources.fetch import Patience
    from tinyllm.data.sources.source_state import is_as_copied, source_state
    from tinyllm.settings.load import load_params

    params = load_params(args.params, check_source)
    downloads = project_root() / STATE_FOLDER / "downloads"  # kept when DVC deletes outputs
    patience = Patience(
        stall=params.runtime.download_timeout, retries=params.runtime.download_retries
    )
    with publish_folder(args.raw) as folder, made_from:
        made_from.add(
            lambda: source_state(params.download),
            lambda name: is_as_copied(params.download, folder, name),
        )
        manifest = fetch_corpus(params.download, folder, downloads, patience)
    print(
        f"download: {manifest.source}: {manifest.documents:,} documents, "
        f"{megabytes(manifest.bytes)}, licence: {manifest.licence or 'not stated'}"
    )
    for note in manifest.notes:
        print(f"download: {note}")
    if empty := manifest.without_text:
        print(f"download: {len(empty)} of {manifest.count:,} files contain no text: {empty[0]} ...")


if __name__ == "__main__":
    run_stage(main)
