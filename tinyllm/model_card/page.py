"""The text of a model card: what a model is, how to load it, its data, its scores, its limits.

`train` writes it as the README.md of the model folder, with what it knows; `evaluate` writes a
complete one, with test scores, samples and pictures. The same facts give the same text: no dates.
"""

import json
import re
from typing import Any

import yaml

from tinyllm.common.units import megabytes
from tinyllm.model_card.facts import FACTS, Evaluation, Training, in_words
from tinyllm.model_card.licences import hub_licence
from tinyllm.model_card.loading import how_to_load
from tinyllm.models.registry import class_of

PROMPT = "The "  # in examples, where no sample's is known
TRAINED = "bpe-"  # begins the names of encodings that were trained on the corpus


def card(training: Training, evaluation: Evaluation | None = None) -> str:
    """The model card in Markdown; complete with an evaluation."""
    prompt = evaluation.samples[0][0] if evaluation and evaluation.samples else PROMPT
    architecture = class_of(training.settings["architecture"])
    context = int(training.settings["context_length"])
    sections = [
        front_matter(training, evaluation),
        _introduction(training, evaluation),
        how_to_load(architecture, prompt, context),
        _data(training),
        _validation(training) if evaluation is None else _scores(training, evaluation),
        *([_samples(evaluation)] if evaluation and evaluation.samples else []),
        _limits(training),
        _settings(training, evaluation),
    ]
    return "\n\n".join(sections) + "\n"


def front_matter(training: Training, evaluation: Evaluation | None = None) -> str:
    """The fields that the Hub reads."""
    fields: dict[str, Any] = {
        **hub_licence(training.licence),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tinyllm", training.settings["architecture"]],
    }
    if evaluation is not None:
        names = {
            "bits_per_byte": "bits per byte", "perplexity": "perplexity per token",
            "loss": "nats per token", "accuracy": "accuracy per token",
        }  # fmt: skip
        result = {
            "task": {"type": "text-generation", "name": "Text generation"},
            "dataset": {
                "name": f"test split of {training.source}",
                "type": "tinyllm",
                "split": "test",
                "revision": training.splits["test"]["sha256"],
            },
            "metrics": [
                {"type": name, "name": words, "value": round(evaluation.scores[name], 4)}
                for name, words in names.items()
            ],
        }
        fields["model-index"] = [{"name": training.name, "results": [result]}]
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---"


def _introduction(training: Training, evaluation: Evaluation | None) -> str:
    shape = training.settings
    split, scores = (
        ("validation", training.validation) if evaluation is None else ("test", evaluation.scores)
    )
    tied = "tied" if shape["tie_embeddings"] else "not tied"
    rows = {
        "parameters": f"{training.parameters:,}",
        "architecture": f"`{class_of(shape['architecture']).HF_ARCHITECTURE}`: "
        f"{shape['n_layer']} layers, {shape['n_head']} heads, width {shape['d_model']}, "
        f"embedding and head {tied}",
        "vocabulary": f"{training.vocab_size:,} tokens (`{training.tokenizer}`, byte-level BPE)",
        "context": f"{shape['context_length']:,} tokens",
        "trained on": f"{training.source}, {in_words(training.splits['train']['tokens'])} tokens",
        "licence of the text": training.licence or "not stated",
        f"on the {split} split": f"{scores['bits_per_byte']:.3f} bits per byte",
    }
    return (
        f"# {training.name}\n\n"
        f"A language model of {in_words(training.parameters)} parameters, trained from scratch by "
        "tinyllm, a pipeline that anybody can run again to get the same bytes. It continues a "
        "text in the style of its training data. It follows no instructions.\n\n"
        "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    )


def _data(training: Training) -> str:
    rows = [
        f"| {name} | {held['documents']:,} | {held['tokens']:,} | {megabytes(held['bytes'])} "
        f"| `{held['sha256'][:16]}` |"
        for name, held in training.splits.items()
    ]
    tokenizer = (
        "The tokenizer was trained on the training documents only."
        if training.tokenizer.startswith(TRAINED)
        else f"The tokenizer is the published encoding `{training.tokenizer}`."
    )
    epochs = training.tokens_seen / training.splits["train"]["tokens"]
    return (
        "## Data\n\n"
        f"The text is {training.source}. Documents are divided by the hash of their content. "
        f"{tokenizer}\n\n"
        "| split | documents | tokens | text | SHA-256 of the tokens |\n|---|--:|--:|--:|---|\n"
        + "\n".join(rows)
        + f"\n\nTraining read {in_words(training.tokens_seen)} tokens: each about "
        f"{epochs:.2g} times."
    )


def _validation(training: Training) -> str:
    scores = training.validation
    return (
        "## Scores\n\n"
        f"On the validation split: {scores['bits_per_byte']:.4f} bits per byte, "
        f"{scores['loss']:.4f} nats per token (perplexity {scores['perplexity']:.2f}), "
        f"{scores['accuracy']:.1%} of the tokens are the most likely one. The validation split "
        "chose the weights if `train.save` is `best`. `evaluate` has the scores on the test split."
    )


def _scores(training: Training, evaluation: Evaluation) -> str:
    rows = {**evaluation.baselines, f"**{training.name}**": evaluation.scores["bits_per_byte"]}
    table = "\n".join(
        f"| {name} | {value:.3f} |" for name, value in sorted(rows.items(), key=lambda r: -r[1])
    )
    held, scores = training.splits["test"], evaluation.scores
    pictures = [f"![{about}]({path})" for about, path in evaluation.pictures.items()]
    return "\n\n".join(
        [
            "## Scores",
            f"On the test split, whose {held['tokens']:,} tokens only the final evaluation reads. "
            f"Each token is predicted once, from at least {evaluation.context} tokens before it "
            "where there are so many:",
            "| | bits per byte |\n|---|--:|\n" + table,
            f"This is a loss of {scores['loss']:.4f} nats per token, a perplexity of "
            f"{scores['perplexity']:.2f}, and {scores['accuracy']:.1%} of the tokens are the most "
            f"likely one. On the validation split: {training.validation['bits_per_byte']:.4f} "
            "bits per byte.",
            *pictures,
        ]
    )


def _samples(evaluation: Evaluation) -> str:
    parts = [_fenced(f"{prompt}▶{text}") for prompt, text in evaluation.samples]
    return "\n\n".join(
        [
            "## Samples",
            f"The model generated what follows `▶`{evaluation.sampling}. They are the first "
            "prompts of the evaluation, not a selection.",
            *parts,
        ]
    )


def _fenced(text: str) -> str:
    """A text in a fence that none of its lines closes."""
    longest = max((len(run) for run in re.findall(r"~+", text)), default=0)
    fence = "~" * max(4, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _limits(training: Training) -> str:
    context = training.settings["context_length"]
    licence = training.licence or "not stated"
    return (
        "## Limits\n\n"
        f"- **Position.** It was never trained beyond {context:,} tokens and gets worse there. "
        "Most programs generate more anyway.\n"
        "- **Truth.** A model of this size writes fluent text that is often wrong. Names, numbers "
        "and code in it are made up. It is for learning and for experiments, not for advice.\n"
        "- **Memory.** It may repeat passages of its training data word for word, personal data "
        "and errors in it included. No text was filtered for content.\n"
        f"- **Licence.** The licence of the training text ({licence}) is the one stated for the "
        "data. Whether it applies to the model or to what it generates is for you to judge."
    )


def _settings(training: Training, evaluation: Evaluation | None) -> str:
    rows = {**training.settings, "seed": training.seed, "precision": training.precision}
    table = "\n".join(f"| `{name}` | {_cell(value)} |" for name, value in rows.items())
    digest = evaluation and f" The SHA-256 of the weights is `{evaluation.weights_sha256}`."
    return (
        "## How it was made\n\n"
        f"{training.steps:,} steps; the weights are those of step {training.saved_step:,}. With "
        "these settings in `params.yaml` of tinyllm, and the same text, `make repro` makes the "
        "same bytes again on the same machine, and a model with nearly the same scores on another. "
        f"{FACTS} in the model folder has these numbers.{digest or ''}\n\n"
        "<details><summary>Settings of the training</summary>\n\n"
        f"| setting | value |\n|---|---|\n{table}\n\n</details>"
    )


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
