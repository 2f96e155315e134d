"""`tinyllm reproduce RUN`: runs the pipeline of an MLflow run again and compares the results."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tinyllm.common.files import project_root
from tinyllm.experiments import run_files
from tinyllm.experiments.recorded import REPRODUCES, Recorded, recorded
from tinyllm.experiments.sameness import Row, compare, what_is_same
from tinyllm.experiments.surroundings import compute_here, differences, pinned
from tinyllm.experiments.work_tree import Plan, dvc, make, plan
from tinyllm.tracking.folders import JOURNAL
from tinyllm.tracking.mlflow.database import path_of
from tinyllm.tracking.mlflow.refusals import reason_of
from tinyllm.tracking.mlflow.runs import JOURNAL_TAG

IDENTICAL = "tinyllm.reproduced_identically"  # "true" or "false"


def reproduce(name: str, into: Path | None, keep: bool | None) -> bool:
    """Reproduce a run, print whether the result is the same, and tag the new run in MLflow.

    Args:
        name: the run's name, its experiment's name, or the beginning of its id.
        into: the folder to make; None for one beside the project.
        keep: whether to keep it; None to delete it if the result is identical and `into` is None.

    Returns:
        Whether every file of the model and every test loss has the same bytes.

    Raises:
        ValueError: something that the run needs is missing, or the pipeline fails.
    """
    root = project_root()
    here = Path.cwd()
    run = recorded(name)
    into_given = into is not None
    folder = (here / into) if into is not None else _beside(root, run)
    if folder.exists():
        raise ValueError(f"{folder} exists; choose a new folder with --into, or delete it")
    made = _demand(run, root)
    uri = _absolute(os.environ["MLFLOW_TRACKING_URI"], root)
    shown = os.path.relpath(folder, here)
    _announce(made, shown)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        tree = make(made, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        _run_pipeline(made, tree)
    except (ValueError, KeyboardInterrupt):
        _mark(tree, run, None)
        print(f"the work tree is kept: {shown}", file=sys.stderr)
        raise
    rows = compare(run, tree)
    same = all(row.same for row in rows)
    marked = _mark(tree, run, same)
    _report(rows, run, made, root, same)
    if keep or (keep is None and (into_given or not same)):
        print(f"the work tree: {shown}")
    elif marked:
        shutil.rmtree(folder)
        print("the work tree was deleted; --keep keeps it")
    else:
        print(f"kept, since MLflow has not received its run yet: {shown}")
    return same


def _demand(run: Recorded, root: Path) -> Plan:
    """Check that a run can be repeated here, and plan it.

    Raises:
        ValueError: it can't.
    """
    if run.weights is None:
        status = run.entry.info.status
        raise ValueError(f"{run.title}: it has no model to compare with; its status is {status}")
    made = plan(run, root)
    hardware = made.settings["hardware"]
    if hardware.get("nodes", 1) != 1:
        raise ValueError(
            f"{run.title}: trained on {hardware['nodes']} machines; see the run's page"
        )
    made.settings["hardware"] = pinned(hardware, made.settings["train"], run.resolved)
    if made.settings["evaluate"].get("register_as"):
        made.settings["evaluate"]["register_as"] = None  # it is no new version of the model
    return made


def _beside(root: Path, run: Recorded) -> Path:
    """A folder beside the project: paths like ../my-texts lead to the same files from there."""
    name = re.sub(r"[^\w.-]+", "-", run.run.name)[:60]
    return root.with_name(f"{root.name}-{name}-{run.run_id[:7]}")


def _absolute(uri: str, root: Path) -> str:
    """The address of MLflow's store, also from another folder."""
    path = path_of(uri)
    if path is None or path.is_absolute():
        return uri
    place = root / path
    if re.search(r"[?%#]", str(place)):
        raise ValueError(f"{place}: set MLFLOW_TRACKING_URI; the path can't be in its default")
    return f"sqlite:///{place}"


def _announce(made: Plan, folder: str) -> None:
    run = made.run
    extras = [
        "with its uncommitted changes" if run.has_patch else "",
        *(f"{name} copied" for name in made.copies),
    ]
    print(f"reproducing {run.title} in {folder}")
    print(", ".join([f"commit  {(run.commit or '')[:10]}", *filter(None, extras)]))
    for name in made.lost:
        print(f"data    {name} is not as it was; DVC's cache has the tokens that were made of it")
    if not run.resolved.get("torch_version"):
        print("warning: the run's hardware is not recorded, so the result may differ")
        return
    here = compute_here(made.settings["hardware"], made.settings["train"])
    found = differences(run, here, made.project)
    for line in found:
        print(f"warning: {line}")
    if found:
        print("warning: with these differences the result is probably not identical")
    else:
        print(
            f"machine same as the run's: {here.device_name}, {here.threads} thread(s), "
            f"{here.precision}, torch {here.torch_version}, and all packages"
        )
    sys.stdout.flush()


def _run_pipeline(made: Plan, tree: Path) -> None:
    """Run every stage whose output is not there: at least training and evaluation.

    Raises:
        ValueError: a stage fails.
    """
    # Without --no-commit, a result that differs would fill the project's cache.
    options = ["--no-run-cache", "--no-commit"]
    if made.lost:  # the stages before would stop: their input is missing
        options += ["--single-item", run_files.DATA_STAGES[-1], "train", "evaluate"]
    if status := dvc(tree, "repro", *options):
        raise ValueError(f"{made.run.title}: `dvc repro` failed with status {status}")


def _mark(tree: Path, run: Recorded, same: bool | None) -> bool:
    """Send the reproduction's run to MLflow, and tag it. Returns whether MLflow has it.

    Args:
        same: whether it is identical; None if it did not finish.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    world = {k: v for k, v in os.environ.items() if k not in ("TINYLLM_ROOT", "DVC_ROOT")}
    sent = subprocess.run(
        [sys.executable, "-m", "tinyllm", "sync"],
        cwd=tree, env=world, check=False, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        client = MlflowClient()
        for journal in (tree / ".tinyllm").glob(f"*/*-train/{JOURNAL}"):
            by_journal = f"tags.`{JOURNAL_TAG}` = '{journal.parent.name}'"
            for made in client.search_runs([run.entry.info.experiment_id], by_journal):
                number = made.info.run_id
                client.set_tag(number, REPRODUCES, run.run_id)
                client.set_tag(number, "mlflow.runName", f"reproduction of {run.title}")
                if same is not None:
                    client.set_tag(number, IDENTICAL, str(same).lower())
    except MlflowException as error:
        print(f"the new run has no tag {REPRODUCES}: {reason_of(error)}", file=sys.stderr)
        return False
    return sent.returncode == 0


def _report(rows: list[Row], run: Recorded, made: Plan, root: Path, same: bool) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("", f"run {run.run_id[:7]}", "now", ""):
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.cells())
    print()
    Console(highlight=False, markup=False).print(table)
    print()
    if same:
        print(f"identical: {what_is_same(rows)}")
        return
    print("not identical")
    if any(not row.same for row in rows if row.name.endswith("split")):
        print("the data differ, so that the model has to")
        return
    here = compute_here(made.settings["hardware"], made.settings["train"])
    for line in differences(run, here, root) if run.resolved else ["hardware: not recorded"]:
        print(f"  {line}")
