"""Makes a training's run again from what DVC and Git hold, where MLflow has none of its model.

So it is after `dvc pull` on another machine, or after a restore from DVC's cache: a model, scores
and reports, and nothing ever ran. The reports hold every number of every step, but no time, no rate
and no hardware; the rebuilt run has none either.
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
from tinyllm.models.folder import WEIGHTS, load_model
from tinyllm.settings.load import Params, load_params
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.mlflow.database import prepare
from tinyllm.tracking.mlflow.runs import ALL, MODEL_TAG, STAGE_TAG, TRAINING
from tinyllm.tracking.mlflow.store import has_arrived
from tinyllm.tracking.outbox import OTHER_SENDER, pending, sync
from tinyllm.tracking.provenance import PATCH, Provenance, provenance
from tinyllm.tracking.repository import Git, GitError, read_changes
from tinyllm.training import report
from tinyllm.training.data import load_data
from tinyllm.training.display import watch

if TYPE_CHECKING:
    from dvc.repo import Repo

REBUILT = "tinyllm.rebuilt"
TRAIN, EVALUATE = "train", "evaluate"  # the stages that record a run
UNKNOWN = Compute("", "", 0, "hardware unknown", "", "", "")

Places = dict[str, Path]  # a stage's options, as dvc.yaml gives them


def rebuild() -> int:
    """Make the run of the model that is here, unless MLflow has it.

    Returns:
        exit status: 0 if MLflow has it now.

    Raises:
        ValueError: what is here is not what dvc.lock records, or MLflow can't be asked.
    """
    sync(OTHER_SENDER)
    if not all(map(has_arrived, pending())):
        raise ValueError("not rebuilt: MLflow has not got every journal yet; it may be among those")
    with open_repo() as repo:
        demand_recorded(repo)
        train, evaluate = places(repo, TRAIN), places(repo, EVALUATE)
    params = load_params(train["params"])
    model_sha256 = sha256_of(train["model"] / WEIGHTS)
    if run := find(params.runtime.experiment, model_sha256):
        where = "deleted; `mlflow runs restore --run-id` brings it back" if _gone(run) else "there"
        print(
            f"MLflow has the run of this model, {run.info.run_name}: {run.info.run_id} ({where})."
        )
        return 0
    origin = provenance()
    training = training_header(params, train, origin)
    scoring = final_scores.header(params, read_split(evaluate["test"]), model_sha256)
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
    """Make sure that dvc.lock's record of the two stages is true of what is here.

    Raises:
        ValueError: it is not; a run made of this would be a lie.
    """
    from dvc.exceptions import DvcException

    try:
        status = repo.status(targets=[TRAIN, EVALUATE])
    except DvcException as error:
        raise ValueError(f"not rebuilt: {' '.join(str(error).split())}") from None
    if status:
        names = _names(status)
        raise ValueError(
            f"not rebuilt: not as dvc.lock records: {', '.join(names)}; {_help(names)}"
        )
    # DVC goes by times and sizes.
    with tqdm(disable=True) as bar:
        cache = Cache(repo, bar)
        for out in outputs_of(repo, (TRAIN, EVALUATE)):
            for fault in check(out, cache, bar).faults:
                raise ValueError(f"not rebuilt: {fault}")


def _names(status: dict[str, list[Any]]) -> list[str]:
    """What differs, by DVC's report: of each stage, words like "changed command", or files."""
    names = set[str]()
    for stage, changes in status.items():
        for change in changes:
            words = isinstance(change, str)
            names |= {f"{stage} ({change})"} if words else set().union(*change.values())
    return sorted(names)


def _help(names: list[str]) -> str:
    """What to do about files that differ from what dvc.lock records."""
    here = Path.cwd()
    git = Git(here)
    try:
        for file in read_changes(here, into_patch=lambda _: False).changed:
            listed = any(file == name or file.startswith(f"{name}/") for name in names)
            if listed and (here / file).is_file():
                committed = git("cat-file", "blob", f"HEAD:./{file}")
                if committed.splitlines() == (here / file).read_bytes().splitlines():
                    return (
                        f"{file} has other line ends than its commit, which Git makes if "
                        "core.autocrlf is set: commit what you changed, then run `git config "
                        "core.autocrlf false && git rm -rq --cached . && git reset -q --hard`"
                    )
    except GitError:  # the general advice
        pass
    return "`git checkout`, `dvc pull` and `dvc checkout` restore what is recorded"


def places(repo: "Repo", stage: str) -> Places:
    """The paths that dvc.yaml gives a stage, by option."""
    words = shlex.split(repo.stage.load_one(name=stage).cmd)[3:]
    names = [word.removeprefix("--") for word in words[::2]]
    return dict(zip(names, map(Path, words[1::2]), strict=True))


def find(experiment: str, model_sha256: str) -> Any:
    """The training's run in MLflow, a deleted one too; None if there is none.

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


def training_header(params: Params, train: Places, origin: Provenance) -> Header:
    """What the stage said of its run when it began, without the hardware."""
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
        note=f"{header.note}\n\nRebuilt from what DVC and Git hold, as MLflow had no run of this "
        "model. Times, rates and hardware are not known.",
    )


def record_training(journal: Journal, train: Places, model_sha256: str, origin: Provenance) -> None:
    """All that the stage recorded and its reports hold."""
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
    """A report's table; pandas writes nothing where a value is not a number."""
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        return [{name: float(text or "nan") for name, text in row.items()} for row in table]


def record_scores(journal: Journal, evaluate: Places) -> None:
    """All that the stage recorded."""
    reports = evaluate["reports"]
    numbers = read_json(reports / final_scores.SCORES)
    test, baselines = numbers["test"], numbers["baseline_bits_per_byte"]
    journal.metrics(0, {f"test/{name}": test[name] for name in MEASURES})
    journal.metrics(0, {f"baseline/{name}_bits_per_byte": v for name, v in baselines.items()})
    journal.file(reports, f"reports/{reports.name}")
