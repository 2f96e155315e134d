"""Commands about the pipeline: settings, data, machines."""

from pathlib import Path

import click


@click.command()
def check() -> None:
    """Show what will run and how long it takes, or what is wrong.

    Takes some seconds and downloads nothing: reads params.yaml and the first documents of a local
    corpus, and times some training steps on random tokens. Prints one line for each problem that
    would stop `dvc repro`, or a summary of the run.
    """
    from tinyllm.experiments.check import check as check_all

    check_all()


@click.command()
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


@click.command()
def verify() -> None:
    """Check every byte of data, model, checkpoints and DVC's cache.

    Compares each file with its recorded checksum, and reports each corrupt file and how to repair
    it. DVC itself only compares times and sizes.
    """
    from tinyllm.experiments.verify import verify as check

    check()


@click.command()
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


@click.command()
def settings() -> None:
    """Print each setting with its value and description.

    The output is the Markdown of docs/settings.md.
    """
    from tinyllm.common.files import project_root
    from tinyllm.experiments.settings_page import page

    text = Path(project_root(), "params.yaml").read_text(encoding="utf-8")
    print(page(text), end="")
