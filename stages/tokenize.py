"""Turn the documents into token ids, with an encoding learned from the training part or named."""

import argparse
from pathlib import Path

from tinyllm.common import console


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml")
    parser.add_argument("--raw", type=Path, required=True, help="folder of documents to read")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokens", type=Path, required=True, help="folder to write")
    args = parser.parse_args()

    from tinyllm.common.files import publish_folder
    from tinyllm.common.params import load_params
    from tinyllm.corpus.documents import read_documents
    from tinyllm.encoding.encode import encode_corpus, make_tokenizer

    params = load_params(args.params)
    tokenizer = make_tokenizer(lambda: read_documents(args.raw), params.tokenize, params.split)
    with publish_folder(args.tokenizer) as folder:
        tokenizer.save(folder)
    with publish_folder(args.tokens) as folder:
        totals = encode_corpus(lambda: read_documents(args.raw), tokenizer, params.split, folder)
    tokens = sum(total["tokens"] for total in totals.values())
    size = sum(total["bytes"] for total in totals.values())
    print(
        f"tokenize: {tokenizer.encoding.name}, {tokenizer.vocab_size:,} ids: {tokens:,} tokens, "
        f"{size / tokens:.2f} bytes each"
    )
    if params.tokenize.encoding == "bpe" and tokenizer.vocab_size < params.tokenize.vocab_size:
        print(f"tokenize: the text gives no more than {tokenizer.vocab_size:,} tokens")
    if all(total["documents"] == 1 for total in totals.values()):
        print("tokenize: a single document, so it is split by position, not by content")


if __name__ == "__main__":
    console.run_stage(main)
