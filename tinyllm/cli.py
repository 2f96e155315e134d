"""The `tinyllm` command: everything that `dvc`, `mlflow` and `make` don't do.

Each command imports the heavy modules that it needs, so that `--help` is fast.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

from tinyllm.experiments import command
from tinyllm.export.formats import FORMATS, QUANTIZATIONS


class InOrder(click.Group):
    """Lists its commands in the order of their definition, not by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tinyllm", prog_name="tinyllm")
def commands() -> None:
    """Manage the runs and models that `dvc repro` makes.

    \b
    tinyllm check                      see what will run, or what is wrong
    dvc repro                          run the pipeline
    dvc exp run -S train.n_layer=6     run it with other settings, as an experiment
    tinyllm ui                         view the runs in MLflow

    Tab completion: add the output of `_TINYLLM_COMPLETE=bash_source tinyllm` to ~/.bashrc
    (or zsh_source, fish_source).
    """


@commands.command()
def check() -> None:
    """Show what will run and how long it takes, or what is wrong.

    Takes some seconds and downloads nothing: reads params.yaml and the first documents of a local
    corpus, and times some training steps on random tokens. Prints one line for each problem that
    would stop `dvc repro`, or a summary of the run.
    """
    from tinyllm.experiments.check import check as check_all

    check_all()


@commands.command()
@click.argument("name", required=False)
def preset(name: str | None) -> None:
    """List known recipes, or write the recipe NAME into params.yaml.

    \b
    tinyllm preset                     list them
    tinyllm preset tiny && dvc repro   run one of them
    tinyllm preset default             go back

    Settings that no preset changes keep their values.
    """
    from tinyllm.experiments.presets import print_applied, print_presets

    if name is None:
        print_presets()
    else:
        print_applied(name)


@commands.command(context_settings={"ignore_unknown_options": True})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default="5000", show_default=True, help="Port to listen on.")
@click.option("--allowed-hosts", default="", help="Further host names that a browser may use.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ui(host: str, port: str, allowed_hosts: str, arguments: tuple[str, ...]) -> None:
    """View the runs in MLflow.

    ARGUMENTS are passed to `mlflow ui`.
    """
    from tinyllm.common.files import project_root
    from tinyllm.tracking.mlflow.environment import set_up_mlflow
    from tinyllm.tracking.mlflow.ui import serve

    set_up_mlflow(project_root())
    serve(host, port, allowed_hosts, list(arguments))


@commands.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default="mlflow-server",
    show_default=True,
    help="Folder of the server's secrets, and of what is stored nowhere else.",
)
@click.option("--artifacts", default="", help="Folder or address (s3://...) of the artifacts.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default="5000", show_default=True, help="Port to listen on.")
@click.option("--allowed-hosts", default="", help="Names under which others reach the server.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def server(
    folder: Path,
    artifacts: str,
    host: str,
    port: str,
    allowed_hosts: str,
    arguments: tuple[str, ...],
) -> None:
    """Run an MLflow server for a team, with accounts.

    The database is the one in MLFLOW_BACKEND_STORE_URI, such as postgresql://USER:PASSWORD@HOST/DB,
    or else SQLite. ARGUMENTS are passed to `mlflow server`. docs/team-server.md explains the rest.
    """
    from tinyllm.tracking.mlflow.server import serve_team

    serve_team(folder, artifacts, host, port, allowed_hosts, list(arguments))


@commands.command()
@click.option("--last", type=click.IntRange(min=1), help="Show only this many of the latest runs.")
@click.option("--where", default="", help="Show only runs that match a filter of MLflow's.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.argument("runs", nargs=-1)
def compare(runs: tuple[str, ...], last: int | None, where: str, form: str | None) -> None:
    """Compare runs: scores, and the settings in which they differ.

    Lists the runs in MLflow and the experiments in DVC, best first. With two RUNS (their names, or
    the beginnings of their ids), shows whether one is better than the other by more than chance,
    and on which text.

    \b
    tinyllm compare --last 10
    tinyllm compare --where "params.`train.n_layer` = '6'"
    tinyllm compare 69c3ba1 blest-maul
    """
    from tinyllm.experiments.compare import FORMS, Compared
    from tinyllm.experiments.difference_report import compare_two
    from tinyllm.experiments.runs import project_runs

    if runs:
        if len(runs) != 2 or form == "csv":
            raise click.UsageError("give two runs to compare, or none, which lists all")
        compare_two(project_runs(where), runs, form)
    else:
        FORMS[form](Compared.of(project_runs(where)[:last]))


@commands.command()
@click.argument("words", nargs=-1, metavar="[status] FILE")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True,
    help="Trainings at once; they share the cores.",
)  # fmt: skip
def sweep(words: tuple[str, ...], jobs: int) -> None:
    """Train with many settings and find the best ones.

    FILE describes which settings to vary; docs/sweeps.md shows one. Each training is an experiment
    of DVC and a run in MLflow. Interrupt it at any time: the same command resumes it.

    \b
    tinyllm sweep sweep.yaml -j 2      run it, or resume it
    tinyllm sweep status sweep.yaml    its trials, best first
    """
    from tinyllm.experiments.sweep.command import run_sweep, status

    *first, file = words or ("sweep.yaml",)
    if first not in ([], ["status"]):
        raise click.UsageError("give a file, or `status` and a file")
    if file == "status" and not first:
        first, file = ["status"], "sweep.yaml"
    if first:
        status(Path(file))
    else:
        run_sweep(Path(file), jobs)


@commands.command()
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The work tree to make.  [default: a folder beside the project]",
)
@click.option(
    "--keep/--no-keep",
    default=None,
    help="Keep the work tree.  [default: if the result differs, or with --into]",
)
@click.argument("run")
def reproduce(run: str, into: Path | None, keep: bool | None) -> None:
    """Run the pipeline of RUN again, and compare the result.

    RUN is a run's name, or the beginning of its id in MLflow. Its commit, uncommitted changes,
    settings and data go into a work tree, where `dvc repro` trains again from the first step. The
    project's own files do not change. The exit status is 0 if every byte of the model and of the
    test losses is the same, and 1 if not.
    """
    from tinyllm.experiments.reproduce import reproduce as run_again

    sys.exit(0 if run_again(run, into, keep) else 1)


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="Print PROV-JSON, the W3C's format.")
@click.argument("model", required=False, metavar="[RUN | FOLDER]")
def lineage(model: str | None, as_json: bool) -> None:
    """Show where a model comes from: text, settings, code, machine.

    RUN is the name of a run or of a DVC experiment, or the beginning of the id of a run in MLflow.
    FOLDER is a model folder; the default is the project's model. What is not recorded is listed as
    missing.
    """
    from tinyllm.experiments.lineage import lineage as find

    found = find(model)
    if as_json:
        import json

        from tinyllm.experiments.lineage_prov import prov

        print(json.dumps(prov(found), indent=2, ensure_ascii=False))
    else:
        from tinyllm.experiments.lineage_report import print_lineage

        print_lineage(found)


@commands.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write.  [default: one in .tinyllm/reports]",
)
@click.option(
    "--against",
    metavar="REV",
    help="Compare with the scores of this commit.  [default: the last one with other scores]",
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@click.argument("run", required=False)
def report(run: str | None, output: Path | None, against: str | None, show: bool) -> None:
    """Draw a page about a run, to read or to send: one HTML file.

    Has everything of the page that `evaluate` draws, and what only MLflow and Git know: times,
    throughput, hardware, the commit, and the scores of the commit before. RUN is the name of a run
    or the beginning of its id; by default it is the project's last run.

    \b
    tinyllm report --open
    tinyllm report blest-maul -o for-you.html
    """
    from tinyllm.experiments.report import report as draw

    print(draw(run, output, against, show=show))


@commands.command()
def sync() -> None:
    """Send runs to MLflow that it has not received yet.

    While an MLflow server is unreachable, runs are stored in .tinyllm/journals. This command sends
    them, and retries what MLflow refused.
    """
    from tinyllm.common.files import project_root
    from tinyllm.tracking.mlflow.environment import set_up_mlflow
    from tinyllm.tracking.outbox import OTHER_SENDER, pending
    from tinyllm.tracking.outbox import sync as send

    set_up_mlflow(project_root())
    if not pending():
        print("MLflow has everything.")
    sys.exit(min(1, send(OTHER_SENDER, everything=True)))


@commands.command()
def rebuild() -> None:
    """Create the MLflow run of a model that `dvc pull` downloaded.

    If MLflow has no run of this model, one is created from the reports, settings and lock file in
    Git.
    """
    from tinyllm.common.files import project_root
    from tinyllm.experiments.rebuild import rebuild as make_run
    from tinyllm.tracking.mlflow.environment import set_up_mlflow

    set_up_mlflow(project_root())
    sys.exit(min(1, make_run()))


@commands.command()
def verify() -> None:
    """Check every byte of data, model, checkpoints and DVC's cache.

    Compares each file with its recorded checksum, and reports each corrupt file and how to repair
    it. DVC itself only compares times and sizes.
    """
    from tinyllm.experiments.verify import verify as check

    check()


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


@commands.command()
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


@commands.command()
@click.argument("address")
@click.argument("number", type=click.IntRange(min=1))
def join(address: str, number: int) -> None:
    """Join a training that another machine runs.

    ADDRESS is the address of the first machine, on which `dvc repro` runs with MASTER_ADDR set to
    it. NUMBER is the number of this machine, from 1. The number of machines is hardware.nodes in
    params.yaml.

    Code, params.yaml and data must be the same on all machines (`git pull` and `dvc pull`, or a
    shared folder). This machine waits up to an hour for the first one, and writes no files.
    """
    from tinyllm.experiments.join import join as take_part

    take_part(address, number)


@commands.command()
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


@commands.command()
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


@commands.command()
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


@commands.command()
def vega() -> None:
    """Print a template for `dvc plots` that needs no network.

    The template contains Vega. docs/experiments.md shows how to use it.
    """
    from tinyllm.experiments.plots_page import template

    print(template())


@commands.command()
def settings() -> None:
    """Print each setting with its value and description.

    The output is the Markdown of docs/settings.md.
    """
    from tinyllm.common.files import project_root
    from tinyllm.experiments.settings_page import page

    text = Path(project_root(), "params.yaml").read_text(encoding="utf-8")
    print(page(text), end="")


def main() -> None:
    """Run the command; an error that the user can fix is printed as one line without traceback."""
    command.run(_run)


def _run() -> None:
    try:
        commands(prog_name="tinyllm", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        raise KeyboardInterrupt from None
