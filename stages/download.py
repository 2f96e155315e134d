"""Download the corpus: documents in one folder, with a manifest that describes them."""

from tinyllm.experiments.command import read_paths, run_stage


def main() -> None:
    args = read_paths(__doc__, params="params.yaml", raw="folder of documents to write")

    from tinyllm.common.unchanged import MadeFrom

    made_from = MadeFrom("download", params=args.params, sections=["download"])

    from tinyllm.common.files import publish_folder
    from tinyllm.data.sources.catalogue import check_source
    from tinyllm.data.sources.corpus import fetch_corpus, lines
    from tinyllm.data.sources.fetch import Patience, downloads_folder
    from tinyllm.data.sources.source_state import is_as_copied, source_state
    from tinyllm.settings.load import load_params

    params = load_params(args.params, check_source)
    patience = Patience.of(params.runtime)
    with publish_folder(args.raw) as folder, made_from:
        made_from.add(
            lambda: source_state(params.download),
            lambda name: is_as_copied(params.download, folder, name),
        )
        manifest = fetch_corpus(params.download, folder, downloads_folder(), patience)
    for line in lines(manifest):
        print(f"download: {line}")


if __name__ == "__main__":
    run_stage(main)
