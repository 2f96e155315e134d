"""Commands and paths of the stages in dvc.yaml."""

import shlex
from pathlib import Path

from tinyllm.settings import strict_yaml


def command_of(stage: str) -> list[str]:
    """The arguments of Python in a stage's command, for the project's root."""
    pipeline = strict_yaml.load(Path("dvc.yaml").read_text(encoding="utf-8"))
    python, *command = shlex.split(pipeline["stages"][stage]["cmd"])
    assert python == "python", python
    return command


def argument_of(stage: str, name: str) -> Path:
    """The path of the option `--name` in a stage's command."""
    command = command_of(stage)
    return Path(command[command.index(f"--{name}") + 1])
