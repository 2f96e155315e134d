"""Encode the documents as token ids, with a tokenizer trained on the corpus or a published one."""

import argparse
from functools import partial
from pathlib import Path

from tinyllm.experiments.command import run_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml")
    parser.add_argument("--raw", type=Path, required=True, help="folder of documents to read")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokens", type=Path, required=True, help="folder to write")
    parser.add_argument("--reports", type=Path, required=True, help="folder of reports to write")
    args = parser.parse_args()

    from tinyllm.common.unchanged import MadeFrom

    made_from = MadeFrom("tokenize", [args.raw], args.params, ["tokenize", "split"])

    from tinyllm.common.files import (
        STATE_FOLDER,
        project_root,
        publish_folder,
        scratch_folder,
    )
    from tinyllm.data.readers.raw_folder import read_manifest, read_pieces
    from tinyllm.data.sources.fetch import Patience
    from tinyllm.data.tokenize import corpus_report
    from tinyllm.data.tokenize.batches import shown
    from tinyllm.data.tokenize.encode import encode_corpus, make_tokenizer
    from tinyllm.data.tokenize.published import load_published
    from tinyllm.data.tokenize.survey import survey
    from tinyllm.data.tokenize.workers import Workers
    from tinyllm.settings.load import load_params

    params = load_params(args.params)
    patience = Patience(
        stall=params.runtime.download_timeout, retries=params.runtime.download_retries
    )
    downloads = project_root() / STATE_FOLDER / "downloads"
    # First, to fail early: reading the corpus takes longer.
    load_published(params.tokenize.encoding, downloads, patience)
    raw = read_manifest(args.raw)
    size = raw.bytes
    corpus = partial(shown, partial(read_pieces, args.raw), size=size)
    with (
        publish_folder(args.tokenizer) as tokenizer_folder,
        publish_folder(args.tokens) as tokens_folder,
        publish_folder(args.reports) as reports_folder,
        scratch_folder(args.tokens) as notes,
        Workers.for_bytes(size) as workers,
        made_from,
    ):
        found = survey(corpus(purpose="find duplicates"), params.split, notes, workers)
        tokenizer = make_tokenizer(corpus(purpose="train the tokenizer"), found, params.tokenize)
        tokenizer.save(tokenizer_folder)
        totals = encode_corpus(
            corpus(purpose="encode"), found, tokenizer_folder, tokens_folder, workers
        )
        content = corpus_report.summary(found, totals, tokenizer, raw)
        corpus_report.write(reports_folder, content, totals)
    for line in corpus_report.lines(content, params.tokenize):
        print(f"tokenize: {line}")


if __name__ == "__main__":
    run_stage(main)
