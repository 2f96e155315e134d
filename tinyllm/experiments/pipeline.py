"""The stages as dvc.yaml has them."""

import shlex
from pathlib import Path

from tinyllm.settings import strict_yaml


def command_of(stage: str) -> list[str]:
    """What a stage's command passes to Python, in the project's root."""
    pipeline = strict_yaml.load(Path("dvc.yaml").read_text(encoding="utf-8"))
    python, *command = shlex.split(pipeline["stages"][stage]["cmd"])
    assert python == "python", python
    return command


def argument_of(stage: str, name: str) -> Path:
    """The path that a stage's command passes as `--name`."""
    command = command_of(stage)
    return Path(command[command.index(f"--{name}") + 1])
