"""Commands and paths of the stages in dvc.yaml."""

import shlex
from pathlib import Path

from tinyllm.settings import strict_yaml

Places = dict[str, Path]  # the path of each option of a stage's command


def command_of(stage: str, root: Path = Path()) -> list[str]:
    """The arguments of Python in a stage's command, for the project's root."""
    pipeline = strict_yaml.load((root / "dvc.yaml").read_text(encoding="utf-8"))
    python, *command = shlex.split(pipeline["stages"][stage]["cmd"])
    assert python == "python", python
    return command


def places_of(stage: str, root: Path = Path()) -> Places:
    """The paths in a stage's command, by the name of their option, relative to the root."""
    _, _, *options = command_of(stage, root)  # after -m MODULE
    names = [option.removeprefix("--") for option in options[::2]]
    return dict(zip(names, map(Path, options[1::2]), strict=True))
