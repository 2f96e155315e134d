"""Commands about trained models."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

from tinyllm.export.formats import FORMATS, QUANTIZATIONS


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which model to use."""
    command = click.option(
        "--rev", metavar="REV", help="Take it from a commit, branch, tag or experiment of DVC."
    )(command)
    return click.option(
        "--model",
        metavar="ADDRESS",
        help="A folder, runs:/ID, models:/NAME@ALIAS or another address of MLflow. "
        "[default: the project's model]",
    )(command)


@click.command()
@click.argument("prompt", required=False)
@model_options
@click.option(
    "--max-tokens", metavar="N", help="Most tokens to generate. [default: evaluate.sample_tokens]"
)
@click.option(
    "--temperature",
    metavar="NUMBER",
    help="0: always the most likely token. [default: evaluate.temperature]",
)
@click.option(
    "--top-k",
    metavar="N",
    help="Sample from this many tokens; 0: from all. [default: evaluate.top_k]",
)
@click.option(
    "--top-p",
    metavar="NUMBER",
    help="Sample from the tokens with this total probability. [default: evaluate.top_p]",
)
@click.option(
    "--min-p", metavar="NUMBER", help="Drop tokens below this fraction of the largest probability."
)
@click.option(
    "--repetition-penalty", metavar="NUMBER", help="Above 1: repeat fewer tokens. [default: 1]"
)
@click.option("--stop", multiple=True, help="A string that ends the text; may be repeated.")
@click.option("--seed", metavar="N", help="The same seed gives the same text. [default: seed]")
@click.option("-n", "samples", metavar="N", help="Number of texts, generated at once. [default: 1]")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON object per text, with log-probabilities."
)
def generate(
    prompt: str | None,
    model: str | None,
    rev: str | None,
    stop: tuple[str, ...],
    as_json: bool,
    **given: str | None,
) -> None:
    """Generate text that continues PROMPT.

    Without PROMPT, each line that you type is one; in a pipe, standard input is. The defaults in
    brackets are settings of params.yaml.
    """
    from tinyllm.experiments.text_commands import generate as run_generate

    run_generate(prompt, model, rev, given, stop, as_json=as_json)


@click.command()
@click.argument("file", type=click.Path())
@model_options
@click.option(
    "--by",
    type=click.Choice(["all", "document", "line"]),
    default="all",
    show_default=True,
    help="What to score: the whole text or its parts.",
)
@click.option("--separator", help="Text between two documents. [default: download.separator]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each part.")
def score(
    file: str,
    model: str | None,
    rev: str | None,
    by: Literal["all", "document", "line"],
    separator: str | None,
    as_json: bool,
) -> None:
    """Score the text in FILE: bits per byte, loss and perplexity.

    FILE is in UTF-8; - is standard input. A terminal shows the most surprising tokens in colour.
    """
    from tinyllm.experiments.text_commands import score as run_score

    run_score(file, model, rev, by, separator, as_json=as_json)


@click.command()
@click.option(
    "--format",
    "name",
    type=click.Choice(list(FORMATS)),
    default="gguf",
    show_default=True,
    help="gguf: for llama.cpp, ollama and LM Studio. hf: a folder for transformers, vLLM and MLX.",
)
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZATIONS),
    help="Store the weights in 8 bits instead of 32 (gguf only).",
)
@model_options
@click.argument("output", type=click.Path(path_type=Path), required=False)
def export(
    name: str, quantize: str | None, model: str | None, rev: str | None, output: Path | None
) -> None:
    """Write the model for other programs, such as llama.cpp.

    \b
    tinyllm export                     a GGUF file
    tinyllm export --quantize q8_0     one with a third of the size
    tinyllm export --format hf         a folder to hand on

    OUTPUT is the file or folder to write; by default it is beside the model, or here for a model of
    MLflow or a revision. docs/export.md shows how to use it in other programs.
    """
    from tinyllm.experiments.export import export as write

    write(name, model, rev, output, quantize)


@click.command()
@click.argument("address")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--rev", metavar="REV", help="A commit, branch, tag or experiment of DVC.")
def fetch(address: str, folder: Path, rev: str | None) -> None:
    """Copy the model at ADDRESS to FOLDER, a new folder.

    \b
    ADDRESS is one of
    runs:/ID                 the model of an MLflow run
    models:/NAME@ALIAS       a registered model; or models:/NAME/VERSION
    s3://..., file://...     the address of an MLflow artifact
    a folder                 with --rev: of this project, as it was in that revision

    origin.json in FOLDER records where the model comes from.
    """
    from tinyllm.experiments.model_address import fetch as copy

    origin = copy(address, rev, folder)
    facts = ", ".join(f"{name} {value}" for name, value in origin.items() if name != "origin")
    print(f"{folder}: {facts}")
