"""`tinyllm sweep` and `tinyllm sweep status`."""

import os
import sys
from pathlib import Path
from typing import Any

from tinyllm.common.files import STATE_FOLDER, project_root, remove
from tinyllm.experiments.outputs import open_repo
from tinyllm.experiments.provenance import PARAMS
from tinyllm.experiments.sweep import report
from tinyllm.experiments.sweep.parent_run import ParentRun
from tinyllm.experiments.sweep.runner import Runner
from tinyllm.experiments.sweep.settings import Sweep, load_sweep
from tinyllm.experiments.sweep.trees import Trees
from tinyllm.experiments.sweep.trials import DATABASE, Trials
from tinyllm.tracking.locks import Lock
from tinyllm.tracking.mlflow.environment import set_up_mlflow

# Of sweep.yaml, what may change between two starts of a sweep.
CHANGEABLE = {"trials", "minutes", "pruner"}


def run_sweep(file: Path, jobs: int) -> None:
    """Run a sweep, or resume it.

    Args:
        file: sweep.yaml.
        jobs: trainings at once.

    Raises:
        ValueError: settings are wrong, or it can't run here.
        KeyboardInterrupt: it was interrupted; the same command resumes it.
    """
    root = project_root()
    given, file = file, file.absolute()
    set_up_mlflow(root)
    sweep = load_sweep(file, root / PARAMS)
    folder = folder_of(root, sweep)
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / "lock", folder / "lock.holder")
    if not lock.acquire():
        raise ValueError(f"the sweep {sweep.content.name!r} is running already{lock.holder()}")
    try:
        trials = Trials.open(folder, sweep)
        setup = _set_up(root, folder, sweep, trials)
        print(report.title(sweep), flush=True)
        _run(root, folder, sweep, trials, setup, jobs)
    except KeyboardInterrupt:  # click drops its message
        print(f"stopped; `tinyllm sweep {given}` resumes from there", file=sys.stderr)
        raise
    finally:
        lock.release()


def status(file: Path) -> None:
    """Print the trials of a sweep, best first.

    Raises:
        ValueError: sweep.yaml is wrong, or the sweep was never started.
    """
    root = project_root()
    sweep = load_sweep(file, root / PARAMS)
    folder = folder_of(root, sweep)
    if not (folder / DATABASE).is_file():
        raise ValueError(f"the sweep {sweep.content.name!r} was not started yet")
    trials = Trials.open(folder, sweep)
    identity = (trials.setup or {}).get("identity", sweep.content.name)
    print(report.title(sweep))
    report.print_table(trials, identity, report.budget(sweep, trials.all(), trials.elapsed))
    for text in report.winner(trials, identity):
        print(text)


def folder_of(root: Path, sweep: Sweep) -> Path:
    """Where a sweep keeps its state."""
    return root / STATE_FOLDER / "sweeps" / sweep.content.name


def _set_up(root: Path, folder: Path, sweep: Sweep, trials: Trials) -> dict[str, Any]:
    """What all trials share: recorded at the first start, compared at each later one."""
    content = sweep.content.model_dump(by_alias=True, exclude=CHANGEABLE)
    if setup := trials.setup:
        changed = [key for key in content if content[key] != setup["content"].get(key)]
        if changed:
            raise ValueError(
                f"{', '.join(changed)} changed since the sweep {sweep.content.name!r} was "
                "started: give the changed sweep another name (name: ...), or delete "
                f"{os.path.relpath(folder)} and its experiments"
            )
        return setup
    trees = Trees(root, folder / "trees")
    if unseen := trees.unseen():
        raise ValueError(
            f"{unseen[0]} is not in Git, so no trial would see it: commit it"
            + (f" (and {len(unseen) - 1} more)" if len(unseen) > 1 else "")
        )
    identity, number = sweep.content.name, 1
    while trees.taken(identity):  # by an earlier sweep whose folder was deleted
        number += 1
        identity = f"{sweep.content.name}{number}"
    head, files = trees.snapshot(identity)
    trials.setup = {
        "content": content,
        "identity": identity,
        "head": head,
        "files": files,
        "cache": open_repo().cache.local_cache_dir,
    }
    assert trials.setup is not None
    return trials.setup


def _run(
    root: Path, folder: Path, sweep: Sweep, trials: Trials, setup: dict[str, Any], jobs: int
) -> None:
    identity = setup["identity"]
    with ParentRun(folder, sweep, setup["head"], identity) as parent:
        runner = Runner(
            root, folder, sweep, trials, setup, parent, jobs,
            lambda trial: print(report.line(trial, trials, identity), flush=True),
        )  # fmt: skip
        if threads := runner.threads():
            print(f"{jobs} at once, each with {threads} thread(s)", flush=True)
        runner.run()
        remove(folder / "trees")
    print(report.budget(sweep, trials.all(), trials.elapsed))
    for text in report.winner(trials, identity):
        print(text)
