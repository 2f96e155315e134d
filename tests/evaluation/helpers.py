"""Settings and splits for tests of evaluations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.helpers import ROOT
from tinyllm.data.token_store import SplitSummary, TokenSplit
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.settings.evaluate import Evaluate
from tinyllm.settings.load import load_params


def settings(**changes: object) -> Evaluate:
    small = {
        "batch_size": 4, "stride": 8, "prompts": ["The ", "Ba ce", "😀\n"], "sample_tokens": 20,
        "temperature": 1.0, "top_k": 50, "documents": 6,
    }  # fmt: skip
    section = load_params(ROOT / "params.yaml").evaluate.model_dump()
    return Evaluate.model_validate(section | small | changes)


def split_of(tokenizer: Tokenizer, documents: Sequence[str]) -> TokenSplit:
    ids = [np.append(tokenizer.encode(text), tokenizer.end_of_text) for text in documents]
    tokens = np.concatenate(ids).astype(np.uint16)
    size = sum(len(text.encode()) for text in documents)
    summary = SplitSummary(len(documents), len(tokens), size, tokenizer.vocab_size, "")
    return TokenSplit(Path("test"), tokens, summary)
