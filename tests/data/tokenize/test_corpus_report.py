"""The report on a corpus."""

from collections import Counter
from pathlib import Path

import numpy as np

from tests.helpers import SPLIT, corpus_of, encode, make_documents
from tinyllm.common.files import read_json
from tinyllm.data.split_rule import SPLITS
from tinyllm.data.tokenize import corpus_report
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.settings.tokenize import Tokenize

BPE = Tokenize(encoding="bpe", vocab_size=320, sample_bytes=None)


def test_the_report_describes_the_corpus(tokenizer: Tokenizer, tmp_path: Path) -> None:
    documents = make_documents(200, seed=1)
    corpus = corpus_of([*documents, *documents[:7]])
    for name in ("a", "b"):
        found, totals = encode(corpus, tokenizer, tmp_path / name)
        content = corpus_report.summary(found, totals, tokenizer)
        corpus_report.write(tmp_path / name / "report", content, totals)
    written = read_json(tmp_path / "a" / "report" / "corpus.json")
    assert written["documents"] == 200 and written["duplicates_dropped"] == 7
    assert written["bytes"] == sum(map(len, documents))
    assert written["tokens"] == sum(len(tokenizer.encode(text)) + 1 for text in documents)
    assert written["bytes_per_token"] == round(written["bytes"] / written["tokens"], 3)
    assert written["near_duplicates"] == {"groups": 0, "documents": 0, "moved": 0}
    assert sum(written["splits"][split]["documents"] for split in SPLITS) == 200
    ids = np.concatenate([tokenizer.encode(text) for text in documents])
    commonest = Counter(ids.tolist()).most_common()[:10]
    assert [token["count"] for token in written["commonest_tokens"]] == [n for _, n in commonest]
    for path in (tmp_path / "a" / "report").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "report" / path.name).read_bytes()
    page = (tmp_path / "a" / "report" / "corpus.md").read_text()
    assert "200 documents" in page and "7 exact duplicates" in page and "lengths.png" in page
    assert any("7 documents skipped" in line for line in corpus_report.lines(content, BPE))


def test_skipped_steps_are_reported(tokenizer: Tokenizer, tmp_path: Path) -> None:
    small = SPLIT.model_copy(update={"near_duplicates": 10})
    more = BPE.model_copy(update={"vocab_size": 400})
    found, totals = encode(corpus_of(make_documents(99, 1)), tokenizer, tmp_path / "a", small)
    lines = list(corpus_report.lines(corpus_report.summary(found, totals, tokenizer), more))
    assert "near-duplicates not searched" in lines[-1]
    assert "the text yields only 320 tokens" in lines
    text = "\n".join(make_documents(99, 1))
    found, totals = encode(corpus_of([text]), tokenizer, tmp_path / "b")
    (*_, last) = corpus_report.lines(corpus_report.summary(found, totals, tokenizer), BPE)
    assert last == "a single document, so it is split by position, not by content"


def test_quantiles_of_lengths() -> None:
    lengths = Counter({3: 50, 10: 1, 7: 40, 100: 9})
    every = sorted(lengths.elements())
    assert corpus_report.quantiles(lengths) == {
        "shortest": 3,
        "tenth": every[9],
        "median": every[49],
        "nine_tenths": every[89],
        "longest": 100,
    }


def test_tokens_are_readable(tokenizer: Tokenizer) -> None:
    shown = [corpus_report.readable(tokenizer, token) for token in b" \n\tA\xff"]
    assert shown == ["␣", "\\n", "\\t", "A", "\\xff"]
    assert corpus_report.cell("a|`b") == "a\\|'b"
