"""Commands about runs and experiments."""

import sys
from pathlib import Path

import click


@click.command(context_settings={"ignore_unknown_options": True})
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


@click.command(context_settings={"ignore_unknown_options": True})
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


@click.command()
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
    from tinyllm.experiments.runs import project_runs

    if runs:
        from tinyllm.experiments.difference_report import compare_two  # imports torch

        if len(runs) != 2 or form == "csv":
            raise click.UsageError("give two runs to compare, or none, which lists all")
        compare_two(project_runs(where), runs, form)
    else:
        FORMS[form](Compared.of(project_runs(where)[:last]))


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
def vega() -> None:
    """Print a template for `dvc plots` that needs no network.

    The template contains Vega. docs/experiments.md shows how to use it.
    """
    from tinyllm.experiments.plots_page import template

    print(template())
