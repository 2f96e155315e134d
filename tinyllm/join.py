"""Have this machine take part in a training that another one runs: `hardware.nodes` in params.yaml.

python -m tinyllm.join ADDRESS NUMBER

ADDRESS is that of the first machine, where `dvc repro` runs with MASTER_ADDR set to it; NUMBER is
this machine's, from 1. It waits for the first one, up to an hour, and writes nothing: model,
reports and checkpoints are the first one's. Code, params.yaml and data must be the same here (`git
pull`, `dvc pull`, or a shared folder).
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from tinyllm.common.console import run
from tinyllm.common.files import project_root
from tinyllm.settings import strict_yaml


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="of the first machine")
    parser.add_argument("number", type=int, help="of this machine, from 1")
    args = parser.parse_args()
    os.chdir(project_root())
    pipeline = strict_yaml.load(Path("dvc.yaml").read_text(encoding="utf-8"))
    python, *command = shlex.split(pipeline["stages"]["train"]["cmd"])
    assert python == "python", python
    os.environ |= {"MASTER_ADDR": args.address, "NODE_RANK": str(args.number)}
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    run(main)
