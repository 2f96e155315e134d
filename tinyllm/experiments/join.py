"""Taking part in a training that another machine runs."""

import os
import shlex
import sys
from pathlib import Path

from tinyllm.common.files import project_root
from tinyllm.settings import strict_yaml


def join(address: str, number: int) -> None:
    """Become the training stage of this machine, as dvc.yaml has its command.

    Args:
        address: of the first machine.
        number: of this machine, from 1.
    """
    os.chdir(project_root())
    pipeline = strict_yaml.load(Path("dvc.yaml").read_text(encoding="utf-8"))
    python, *command = shlex.split(pipeline["stages"]["train"]["cmd"])
    assert python == "python", python
    os.environ |= {"MASTER_ADDR": address, "NODE_RANK": str(number)}
    os.execv(sys.executable, [sys.executable, *command])
