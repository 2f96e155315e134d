"""Creates the MLflow run of a model from files in DVC and Git, if MLflow has no run of it.

That is the case after `dvc pull` on another machine or a restore from DVC's cache: there are a
model, scores and reports, but no stage ran. The reports contain every number of every step, but no
times, rates or hardware, so the rebuilt run has none.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tinyllm.common.files import read_json, sha256_of
from tinyllm.data.token_store import read_split
from tinyllm.evaluation import record as evaluation_record
from tinyllm.evaluation.final_scores import SCORES
from tinyllm.experiments.outputs import Cache, check, open_repo, outputs_of
from tinyllm.experiments.pipeline import Places, places_of
from tinyllm.experiments.provenance import read_origin
from tinyllm.experiments.repository import Git, GitError, read_changes
from tinyllm.experiments.run_files import ENVIRONMENT
from tinyllm.models.folder import WEIGHTS, load_model
from tinyllm.serving.record import record_model
from tinyllm.settings.load import Params, load_params
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.mlflow.database import prepare
from tinyllm.tracking.mlflow.runs import ALL, MODEL_TAG, STAGE_TAG, TRAINING
from tinyllm.tracking.mlflow.store import has_arrived
from tinyllm.tracking.origin import Origin
from tinyllm.tracking.outbox import OTHER_SENDER, pending, sync
from tinyllm.training.data import load_data
from tinyllm.training.display import record as training_record
from tinyllm.training.report import read_evaluations, read_steps

if TYPE_CHECKING:
    from dvc.repo import Repo

REBUILT = "tinyllm.rebuilt"
REMARK = (
    "Rebuilt from files in DVC and Git, because MLflow had no run of this model. "
    "Times, rates and hardware are not known."
)
TRAIN, EVALUATE = "train", "evaluate"  # the stages that record a run


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
    train, evaluate = places_of(TRAIN), places_of(EVALUATE)
    params = load_params(train["params"])
    model_sha256 = sha256_of(train["model"] / WEIGHTS)
    if run := find(params.runtime.experiment, model_sha256):
        where = "deleted; `mlflow runs restore --run-id` restores it" if _gone(run) else "active"
        print(
            f"MLflow has the run of this model, {run.info.run_name}: {run.info.run_id} ({where})."
        )
        return 0
    test, origin = read_split(evaluate["test"]), read_origin()
    scoring = evaluation_record.header(params, test, model_sha256, origin)
    name = record_training(params, train, origin)
    with _journal(scoring, params) as journal:
        evaluation_record.record(journal, evaluate["reports"], evaluate["page"])
        bits = read_json(evaluate["reports"] / SCORES)["test"]["bits_per_byte"]
        losses = evaluate["losses"]
        record_model(journal, evaluate["model"], losses, test, bits, params.evaluate)
    sync(OTHER_SENDER)
    if not all(map(has_arrived, pending())):
        return 1
    print(f"Rebuilt: {name}. Times, rates and hardware are not known.")
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


def record_training(params: Params, train: Places, origin: Origin) -> str:
    """Record what the training stage recorded, without the hardware. Returns the run's name."""
    data = load_data(
        params, *(train[name] for name in ("tokenizer", "train", "validation", "splits"))
    )
    model, _ = load_model(train["model"])
    origin = replace(
        origin,
        tags={**origin.tags, REBUILT: "true"},
        remarks=(*origin.remarks, REMARK),
        files={name: text for name, text in origin.files.items() if name != ENVIRONMENT},
    )
    header = training_record.header(params, None, data, model, origin)
    with _journal(header, params) as journal:
        record = training_record.Record(journal, origin)
        for step, values in read_steps(train["reports"]):
            record.step(step, values)
        for step, scores in read_evaluations(train["reports"]):
            record.evaluation(step, scores)
        record.finish(train["model"], train["reports"])
    return header.name


def _journal(header: Header, params: Params) -> Journal:
    """A journal for MLflow, even if the stages recorded nothing."""
    return Journal(header, params.runtime.model_copy(update={"tracker": "mlflow"}), live=False)
