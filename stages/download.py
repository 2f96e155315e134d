"""Bring the corpus: documents in one folder, with a manifest of what they are."""

import argparse
from pathlib import Path

from tinyllm.common import console


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml")
    parser.add_argument("--raw", type=Path, required=True, help="folder to write")
    args = parser.parse_args()

    from tinyllm.common.files import publish_folder
    from tinyllm.common.params import load_params
    from tinyllm.corpus.sources import bring

    settings = load_params(args.params).download
    with publish_folder(args.raw) as folder:
        manifest = bring(settings, folder)
    print(
        f"download: {manifest.source}: {manifest.documents:,} documents, "
        f"{console.megabytes(manifest.bytes)}, licence: {manifest.licence or 'not stated'}"
    )


if __name__ == "__main__":
    console.run_stage(main)
