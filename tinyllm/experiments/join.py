"""Joining a training that another machine runs."""

import os
import sys

from tinyllm.common.files import project_root
from tinyllm.experiments.pipeline import command_of


def join(address: str, number: int) -> None:
    """Replace this process by the training stage, with the command in dvc.yaml.

    Args:
        address: address of the first machine.
        number: number of this machine, from 1.
    """
    os.chdir(project_root())
    os.environ |= {"MASTER_ADDR": address, "NODE_RANK": str(number)}
    os.execv(sys.executable, [sys.executable, *command_of("train")])
