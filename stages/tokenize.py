"""Encode the documents as token ids, with a tokenizer trained on the corpus or a published one."""

from functools import partial

from tinyllm.experiments.command import read_paths, run_stage


def main() -> None:
    args = read_paths(
        __doc__,
        params="params.yaml",
        raw="folder of documents to read",
        tokenizer="folder of the tokenizer to write",
        tokens="folder of tokens to write",
        reports="folder of reports to write",
    )

    from tinyllm.common.unchanged import MadeFrom

    made_from = MadeFrom(
        "tokenize", [args.raw], args.params, ["tokenize", "split", "train.init_from"]
    )

    from tinyllm.common.files import publish_folder, scratch_folder
    from tinyllm.data.readers.raw_folder import read_manifest, read_pieces
    from tinyllm.data.sources.fetch import Patience, downloads_folder
    from tinyllm.data.token_store import TextSource
    from tinyllm.data.tokenize import corpus_report
    from tinyllm.data.tokenize.batches import shown
    from tinyllm.data.tokenize.encode import encode_corpus, make_tokenizer
    from tinyllm.data.tokenize.published import load_published
    from tinyllm.data.tokenize.survey import survey
    from tinyllm.data.tokenize.workers import Workers
    from tinyllm.data.tokenizer import Tokenizer
    from tinyllm.settings.init_from import base_model
    from tinyllm.settings.load import load_params

    params = load_params(args.params)
    # First, to fail early: reading the corpus takes longer.
    base = base_model(params.train.init_from)
    made_from.reads(base)
    given = None if base is None else Tokenizer.load(base)
    if given is None:
        load_published(params.tokenize.encoding, downloads_folder(), Patience.of(params.runtime))
    raw = read_manifest(args.raw)
    corpus = partial(shown, partial(read_pieces, args.raw), size=raw.bytes)
    with (
        publish_folder(args.tokenizer) as tokenizer_folder,
        publish_folder(args.tokens) as tokens_folder,
        publish_folder(args.reports) as reports_folder,
        scratch_folder(args.tokens) as notes,
        Workers.for_bytes(raw.bytes) as workers,
        made_from,
    ):
        found = survey(corpus(purpose="find duplicates"), params.split, notes, workers)
        tokenizer = given or make_tokenizer(
            corpus(purpose="train the tokenizer"), found, params.tokenize
        )
        tokenizer.save(tokenizer_folder)
        totals = encode_corpus(
            corpus(purpose="encode"), found, tokenizer_folder, tokens_folder, workers,
            TextSource(raw.source, raw.licence),
        )  # fmt: skip
        content = corpus_report.summary(found, totals, tokenizer, raw)
        corpus_report.write(reports_folder, content, totals)
    for line in corpus_report.lines(content, params.tokenize):
        print(f"tokenize: {line}")


if __name__ == "__main__":
    run_stage(main)
