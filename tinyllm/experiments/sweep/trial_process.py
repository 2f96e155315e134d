"""The process of one training of a trial: makes its tree, and runs DVC there.

It ends with the process that started it, so that a killed sweep leaves nothing that runs.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tinyllm.common import os_processes
from tinyllm.experiments.sweep.trees import Trees
from tinyllm.tracking.locks import Lock


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        experiment: name of DVC's experiment.
        root: the project's folder.
        folder: the sweep's folder.
        head, files, cache: see `Trees.make`.
        overrides: for `dvc exp run -S`.
        starter: the process that waits for it.
    """

    experiment: str
    root: str
    folder: str
    head: str
    files: str
    cache: str
    overrides: list[str]
    starter: int

    @property
    def trees(self) -> Trees:
        return Trees(Path(self.root), Path(self.folder) / "trees")

    @property
    def log(self) -> Path:
        """What DVC and the stages print."""
        return Path(self.folder) / "logs" / f"{self.experiment}.log"

    @property
    def lock(self) -> Lock:
        """Held while the process runs."""
        file = Path(self.folder) / "locks" / self.experiment
        return Lock(file, file.with_suffix(".holder"))

    def command(self) -> list[str]:
        """The command of the process."""
        return [sys.executable, "-m", "tinyllm.experiments.sweep.trial_process",
                json.dumps(asdict(self))]  # fmt: skip


def main() -> int:
    """Run the job that the command line describes. Returns the exit status of DVC."""
    job = Job(**json.loads(sys.argv[1]))
    starter = psutil.Process(job.starter)
    os_processes.end_with(starter, "sweep")
    if not job.lock.acquire():
        print(f"another process runs {job.experiment}", file=sys.stderr)
        return 1
    os.chdir(job.trees.make(job.experiment, job.head, job.files, job.cache))
    from dvc.cli import main as dvc

    if status := dvc(["checkout", "--quiet", "--allow-missing"]):
        return int(status)
    options = [part for override in job.overrides for part in ("-S", override)]
    return int(dvc(["exp", "run", "--name", job.experiment, *options]))


if __name__ == "__main__":
    sys.exit(main())
