"""Creates the MLflow run of a model from files in DVC and Git, if MLflow has no run of it.

That is the case after `dvc pull` on another machine or a restore from DVC's cache: there are a
model, scores and reports, but no stage ran. The reports contain every number of every step, but no
times, rates or hardware, so the rebuilt run has none.
"""

import csv
import os
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tinyllm.common.files import read_json, sha256_of
from tinyllm.compute import Compute
from tinyllm.data.token_store import read_split
from tinyllm.evaluation import final_scores
from tinyllm.evaluation.scores import MEASURES
from tinyllm.experiments.outputs import Cache, check, open_repo, outputs_of
from tinyllm.experiments.provenance import read_origin
from tinyllm.experiments.repository import Git, GitError, read_changes
from tinyllm.models.folder import WEIGHTS, load_model
from tinyllm.settings.load import Params, load_params
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.mlflow.database import prepare
from tinyllm.tracking.mlflow.runs import ALL, MODEL_TAG, STAGE_TAG, TRAINING
from tinyllm.tracking.mlflow.store import has_arrived
from tinyllm.tracking.origin import PATCH, Origin
from tinyllm.tracking.outbox import OTHER_SENDER, pending, sync
from tinyllm.training import report
from tinyllm.training.data import load_data
from tinyllm.training.display import watch

if TYPE_CHECKING:
    from dvc.repo import Repo

REBUILT = "tinyllm.rebuilt"
TRAIN, EVALUATE = "train", "evaluate"  # the stages that record a run
UNKNOWN = Compute("", "", 0, "hardware unknown", "", "", "")

Places = dict[str, Path]  # a stage's options in dvc.yaml


def rebuild() -> int:
    """Create the run of the project's model, unless MLflow has it.

    Returns:
        Exit status: 0 if MLflow has the run now.

    Raises:
        ValueError: files differ from dvc.lock, or MLflow does not answer.
    """
    sync(OTHER_SENDER)
    if not all(map(has_arrived, pending())):
        raise ValueError(
            "not rebuilt: MLflow has not received every journal yet, and one of them may be this "
            "run's; run `tinyllm sync` first"
        )
    with open_repo() as repo:
        demand_recorded(repo)
        train, evaluate = places(repo, TRAIN), places(repo, EVALUATE)
    params = load_params(train["params"])
    model_sha256 = sha256_of(train["model"] / WEIGHTS)
    if run := find(params.runtime.experiment, model_sha256):
        where = "deleted; `mlflow runs restore --run-id` restores it" if _gone(run) else "active"
        print(
            f"MLflow has the run of this model, {run.info.run_name}: {run.info.run_id} ({where})."
        )
        return 0
    origin = read_origin()
    training = training_header(params, train, origin)
    scoring = final_scores.header(params, read_split(evaluate["test"]), model_sha256, origin)
    settings = params.runtime.model_copy(update={"tracker": "mlflow"})
    with Journal(training, settings, live=False) as journal:
        record_training(journal, train, model_sha256, origin)
    with Journal(scoring, settings, live=False) as journal:
        record_scores(journal, evaluate)
    sync(OTHER_SENDER)
    if not all(map(has_arrived, pending())):
        return 1
    print(f"Rebuilt: {training.name}. Times, rates and hardware are not known.")
    return 0


def demand_recorded(repo: "Repo") -> None:
    """Check that the files of the two stages are those recorded in dvc.lock.

    Raises:
        ValueError: they differ, so that a rebuilt run would be wrong.
    """
    from dvc.exceptions import DvcException

    try:
        status = repo.status(targets=[TRAIN, EVALUATE])
    except DvcException as error:
        raise ValueError(f"not rebuilt: {' '.join(str(error).split())}") from None
    if status:
        names = _names(status)
        raise ValueError(
            f"not rebuilt: changed since dvc.lock was written: {', '.join(names)}; {_help(names)}"
        )
    # DVC only compares times and sizes.
    with tqdm(disable=True) as bar:
        cache = Cache(repo, bar)
        for out in outputs_of(repo, (TRAIN, EVALUATE)):
            for fault in check(out, cache, bar).faults:
                raise ValueError(f"not rebuilt: {fault}")


def _names(status: dict[str, list[Any]]) -> list[str]:
    """What differs according to DVC: for each stage, words like "changed command", or files."""
    names = set[str]()
    for stage, changes in status.items():
        for change in changes:
            words = isinstance(change, str)
            names |= {f"{stage} ({change})"} if words else set().union(*change.values())
    return sorted(names)


def _help(names: list[str]) -> str:
    """How to restore files that differ from dvc.lock."""
    here = Path.cwd()
    git = Git(here)
    try:
        for file in read_changes(here, into_patch=lambda _: False).changed:
            listed = any(file == name or file.startswith(f"{name}/") for name in names)
            if listed and (here / file).is_file():
                committed = git("cat-file", "blob", f"HEAD:./{file}")
                if committed.splitlines() == (here / file).read_bytes().splitlines():
                    return (
                        f"Git changed the line endings of {file}, because core.autocrlf is set: "
                        "commit what you changed, then run `git config core.autocrlf false && "
                        "git rm -rq --cached . && git reset -q --hard`"
                    )
    except GitError:  # the general advice
        pass
    return "`git checkout`, `dvc pull` and `dvc checkout` restore the recorded files"


def places(repo: "Repo", stage: str) -> Places:
    """The paths of a stage's command in dvc.yaml, by option."""
    words = shlex.split(repo.stage.load_one(name=stage).cmd)[3:]
    names = [word.removeprefix("--") for word in words[::2]]
    return dict(zip(names, map(Path, words[1::2]), strict=True))


def find(experiment: str, model_sha256: str) -> Any:
    """Find the training's run in MLflow, including deleted runs; None if there is none.

    Raises:
        ValueError: MLflow does not answer.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    by_model = f"tags.`{MODEL_TAG}` = '{model_sha256}'"
    by_stage = f"tags.`{STAGE_TAG}` = '{TRAINING}'"
    try:
        prepare(os.environ["MLFLOW_TRACKING_URI"])
        client = MlflowClient()
        known = client.get_experiment_by_name(experiment)
        if known is None:
            return None
        runs = client.search_runs(
            [known.experiment_id], f"{by_model} and {by_stage}", run_view_type=ALL
        )
    except (MlflowException, RuntimeError) as error:
        raise ValueError(f"not rebuilt: {' '.join(str(error).split())}") from None
    return min(runs, key=_gone, default=None)


def _gone(run: Any) -> bool:
    return run.info.lifecycle_stage == "deleted"


def training_header(params: Params, train: Places, origin: Origin) -> Header:
    """The header that the training stage recorded, without the hardware."""
    data = load_data(
        params, *(train[name] for name in ("tokenizer", "train", "validation", "splits"))
    )
    model, _ = load_model(train["model"])
    header = watch.header(params, UNKNOWN, data, model, origin)
    unknown = {f"resolved.{field.name}" for field in fields(Compute)}
    return replace(
        header,
        params={name: value for name, value in header.params.items() if name not in unknown},
        tags={**header.tags, REBUILT: "true"},
        note=f"{header.note}\n\nRebuilt from files in DVC and Git, because MLflow had no run of "
        "this model. Times, rates and hardware are not known.",
    )


def record_training(journal: Journal, train: Places, model_sha256: str, origin: Origin) -> None:
    """Record everything that the training stage recorded and that its reports contain."""
    if origin.patch:
        journal.content(PATCH, origin.patch)
    for row in rows(train["reports"] / report.STEPS):
        step = int(row.pop("step"))
        journal.metrics(step, {f"train/{name}": value for name, value in row.items()})
    for row in rows(train["reports"] / report.EVALUATIONS):
        scores = {
            f"{group}/{measure}": row[f"{split}_{measure}"]
            for split, group in watch.GROUPS.items()
            for measure in MEASURES
        }
        journal.metrics(int(row["step"]), scores)
    watch.record_best(journal, train["reports"])
    journal.file(train["model"], "model")
    journal.file(train["reports"], f"reports/{train['reports'].name}")
    journal.tags({MODEL_TAG: model_sha256})


def rows(path: Path) -> list[dict[str, float]]:
    """Read a report's table; pandas writes NaN as an empty field."""
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        return [{name: float(text or "nan") for name, text in row.items()} for row in table]


def record_scores(journal: Journal, evaluate: Places) -> None:
    """Record everything that the evaluation stage recorded."""
    reports = evaluate["reports"]
    numbers = read_json(reports / final_scores.SCORES)
    test, baselines = numbers["test"], numbers["baseline_bits_per_byte"]
    journal.metrics(0, {f"test/{name}": test[name] for name in MEASURES})
    journal.metrics(0, {f"baseline/{name}_bits_per_byte": v for name, v in baselines.items()})
    journal.file(reports, f"reports/{reports.name}")
