"""Taking part in a training that another machine runs."""

import os
import sys

from tinyllm.common.files import project_root
from tinyllm.experiments.pipeline import command_of


def join(address: str, number: int) -> None:
    """Become the training stage of this machine, as dvc.yaml has its command.

    Args:
        address: of the first machine.
        number: of this machine, from 1.
    """
    os.chdir(project_root())
    os.environ |= {"MASTER_ADDR": address, "NODE_RANK": str(number)}
    os.execv(sys.executable, [sys.executable, *command_of("train")])
