"""The `tinyllm` command line."""

import re
import subprocess
import sys

import click
import pytest

from tests.helpers import ROOT
from tinyllm.cli.main import commands


def tinyllm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tinyllm", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_lists_every_command_with_its_summary() -> None:
    printed = tinyllm("--help").stdout
    for name, command in commands.commands.items():
        assert f"  {name} " in printed and command.get_short_help_str(100) in printed


@pytest.mark.parametrize("name", commands.commands)
def test_each_command_has_help(name: str) -> None:
    done = tinyllm(name, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"Usage: tinyllm {name}")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from tinyllm.cli.main import commands; "
        "assert CliRunner().invoke(commands, ['--help']).exit_code == 0; "
        "sys.exit(', '.join({'torch', 'mlflow', 'dvc', 'numpy', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["bogus"], ["join", "here"], ["join", "here", "0"]])
def test_a_wrong_command_prints_a_short_error(arguments: list[str]) -> None:
    done = tinyllm(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_every_parameter_is_explained() -> None:
    for command in commands.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (command.name, parameter.name)
            else:
                for name in re.findall("[A-Z]+", parameter.human_readable_name):
                    assert name in (command.help or ""), command.name
