"""The command and its list of commands."""

import sys

import click

from tinyllm.cli import models, pipeline, runs
from tinyllm.experiments import command


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


# As --help lists them.
for each in (
    pipeline.check,
    pipeline.preset,
    runs.ui,
    runs.server,
    runs.compare,
    runs.sweep,
    runs.reproduce,
    runs.lineage,
    runs.report,
    runs.sync,
    runs.rebuild,
    pipeline.verify,
    models.generate,
    models.score,
    models.export,
    models.fetch,
    pipeline.join,
    runs.vega,
    pipeline.settings,
):
    commands.add_command(each)


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
