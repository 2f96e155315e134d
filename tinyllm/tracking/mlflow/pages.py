"""Addresses of MLflow's pages, and what the page of an experiment says about it."""

from urllib.parse import quote

# Without it MLflow 3 opens its pages for GenAI, which show no training run.
TRAINING = "workflowType=machine_learning"
SCORE = "test/bits_per_byte"


def runs_page(experiment: str | None) -> str:
    """The page with an experiment's runs, below MLflow's address; None: the list of experiments."""
    if experiment is None:
        return f"#/experiments?{TRAINING}"
    return f"#/experiments/{experiment}/runs?{TRAINING}"


def charts_page(experiment: str) -> str:
    """The page with the charts of an experiment's runs."""
    return f"{runs_page(experiment)}&compareRunsMode=CHART"


def best_page(experiment: str) -> str:
    """The page with an experiment's runs, the best one first."""
    metric = quote(f"metrics.`{SCORE}`", safe="")
    return f"{runs_page(experiment)}&orderByKey={metric}&orderByAsc=true"


def description(experiment: str) -> str:
    """What an experiment is, in Markdown; MLflow shows the first line until you expand the rest."""
    links = [
        f"[{name}]({page(experiment)})"
        for name, page in (("Runs", runs_page), ("Best first", best_page), ("Charts", charts_page))
    ]
    return f"""\
Trainings of a small language model. Lower `{SCORE}` is better. {" · ".join(links)}

| metrics | what they are |
|---|---|
| `best/...` | validation scores of the saved weights |
| `bits_per_byte/...`, `loss/...` | curves: `train` and `val` are splits, `batch` is each step |
| `test/...`, `test_baselines/...` | scores on the test split; those of zlib, lzma, a bigram model |
| `train/...`, `val/...` | learning rate, gradient norm, speed; accuracy and perplexity |
| `words/...` | repetition and verbatim copies in generated, prompted and real text |

In these names, `bits_per_byte` is the loss in bits, divided by the bytes of the text. It does not
depend on the tokenizer.
"""
