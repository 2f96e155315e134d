"""The runs of this project: MLflow's, and DVC's experiments, as one list."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinyllm.common.files import project_root
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.provenance import PARAMS
from tinyllm.experiments.repository import Git, GitError, has_repository
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import flatten, load_params
from tinyllm.tracking.mlflow.calls import TRAINED_BY_TAG
from tinyllm.tracking.mlflow.database import path_of
from tinyllm.tracking.mlflow.environment import set_up_mlflow
from tinyllm.tracking.mlflow.values import PARAM_LENGTH, fit

TEST, VALIDATION = "test/bits_per_byte", "best/bits_per_byte"
EXPERIMENTS = "refs/exps/"  # DVC's: refs/exps/<first 2 of the base commit>/<other 38>/<name>
NOT_FINISHED = ("stash", "exec", "celery")  # queued and running ones, and DVC's own records
SWEEP_RUN_TAG = "tinyllm.sweep.trials"  # of a run that has a sweep's trainings as children
PAGE = 1000  # runs that MLflow returns at once


@dataclass(frozen=True)
class Run:
    """A training with its scores.

    Attributes:
        name: DVC's name of the experiment, or MLflow's name of the run.
        settings: text of each setting by its name; empty if unknown.
        test, validation: bits per byte; None if there is no score.
        seconds: from the start of the training to its end.
        tokens_per_second: of the training, over its steps.
        time: when it began (MLflow) or was committed (DVC), in seconds since 1970.
        status: MLflow's status, or FINISHED for a run that only DVC knows.
        run_id: MLflow's id; None if MLflow does not know it.
        experiment: whether DVC has it as an experiment.
        base: commit that the experiment started from, or commit of the run.
        revision: commit of DVC's experiment.
        test_sha256: of the test split, as MLflow's digest (32 digits); None if unknown.
        title: MLflow's name of the run, which shows what is special about it; empty if MLflow does
            not know the run.
    """

    name: str
    settings: dict[str, str] = field(default_factory=dict)
    test: float | None = None
    validation: float | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    time: float = 0.0
    status: str = "FINISHED"
    run_id: str | None = None
    experiment: bool = False
    base: str | None = None
    revision: str | None = None
    test_sha256: str | None = None
    title: str = ""

    @property
    def short_id(self) -> str:
        """The beginning of MLflow's id, or of the experiment's commit if MLflow has no run."""
        return (self.run_id or self.revision or "")[:7]


def project_runs(where: str = "") -> list[Run]:
    """Read the runs of the project that the current folder is in; see `read_runs`."""
    root = project_root()
    set_up_mlflow(root)
    return read_runs(root, load_params(root / PARAMS).runtime.experiment, where)


def read_runs(root: Path, experiment: str, where: str = "") -> list[Run]:
    """Read the runs that MLflow or DVC know, the latest first.

    Args:
        root: the project's folder.
        experiment: name of the MLflow experiment.
        where: a filter in MLflow's language; runs that MLflow does not know are excluded then.

    Raises:
        ValueError: MLflow refuses the filter, or does not answer.
    """
    tracked = list(mlflow_runs(experiment, where))
    known = {(run.name, run.base): run for run in dvc_experiments(root)}
    runs = []
    for run in tracked:
        ours = known.pop((run.name, run.base), None)
        if ours is not None:
            run = replace(run, experiment=True, revision=ours.revision)
        runs.append(run)
    if not where:
        runs += known.values()
    return sorted(runs, key=lambda run: run.time, reverse=True)


# ----- MLflow


def mlflow_runs(experiment: str, where: str = "") -> Iterator[Run]:
    """Yield the runs of an MLflow experiment."""
    store = path_of(os.environ["MLFLOW_TRACKING_URI"])
    if store is not None and not store.exists():  # reading must not create it
        return
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient()
        known = client.get_experiment_by_name(experiment)
        if known is None:
            return
        token = None
        while True:
            page = client.search_runs(
                [known.experiment_id], where, max_results=PAGE, page_token=token
            )
            yield from (from_mlflow(run) for run in page if SWEEP_RUN_TAG not in run.data.tags)
            token = page.token
            if not token:
                return
    except MlflowException as error:
        raise ValueError(" ".join(f"MLflow: {error}".split())) from None


def from_mlflow(run: Any) -> Run:
    """Convert a run of MLflow's."""
    tags, metrics, info = run.data.tags, run.data.metrics, run.info
    settings = {name: text for name, text in run.data.params.items() if "resolved." not in name}
    datasets = {entry.dataset.name: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
    trained_here = TRAINED_BY_TAG not in tags
    return Run(
        name=tags.get("dvc.experiment") or info.run_name,
        title=info.run_name,
        settings=settings,
        test=metrics.get(TEST),
        validation=metrics.get(VALIDATION),
        seconds=seconds if trained_here else None,
        tokens_per_second=metrics.get("train/tokens_per_second"),
        time=info.start_time / 1000,
        status=info.status,
        run_id=info.run_id,
        base=tags.get("dvc.base_revision") or tags.get("mlflow.source.git.commit"),
        test_sha256=datasets.get("test split"),
    )


# ----- DVC


def dvc_experiments(root: Path) -> Iterator[Run]:
    """Yield the finished experiments that DVC keeps in Git.

    They are read from Git itself: importing DVC takes longer than all the rest.
    """
    if not has_repository(root):
        return
    git = Git(root)
    try:
        listed = git(
            "for-each-ref", "--format=%(refname) %(objectname) %(committerdate:unix)", EXPERIMENTS
        )
        here = git("rev-parse", "--show-prefix").decode().strip()
        found = []
        for line in listed.decode().splitlines():
            ref, revision, when = line.split()
            ref = ref.removeprefix(EXPERIMENTS)
            if not ref.startswith(NOT_FINISHED):
                found.append((ref, revision, when))
        if not found:
            return
        files = [
            (places_of("evaluate")["reports"] / "metrics.json").as_posix(),
            (places_of("train")["reports"] / "metrics.json").as_posix(),
            PARAMS,
        ]
        names = [f"{revision}:{here}{file}" for _, revision, _ in found for file in files]
        contents = iter(read_objects(git, names))
    except (GitError, OSError):  # no commit, no pipeline: no experiments either
        return
    for ref, revision, when in found:
        first, rest, name = ref.split("/", 2)
        test, validation, params = (next(contents) for _ in files)
        yield Run(
            name=name,
            settings=settings_of(params),
            test=score_in(test, "test"),
            validation=score_in(validation, "val"),
            time=float(when),
            experiment=True,
            base=first + rest,
            revision=revision,
        )


def read_objects(git: Git, names: Sequence[str]) -> list[bytes | None]:
    """Read objects of Git's by name with one command; None for each that is missing."""
    output = git("cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
    contents: list[bytes | None] = []
    at = 0
    for _ in names:
        end = output.index(b"\n", at)
        about = output[at:end].split()
        at = end + 1
        if len(about) == 3 and about[2].isdigit() and about[1] == b"blob":
            size = int(about[2])
            contents.append(output[at : at + size])
            at += size + 1
        else:
            contents.append(None)
    return contents


def settings_of(params: bytes | None) -> dict[str, str]:
    """The settings in a params.yaml, as MLflow stores them; empty if it can't be read."""
    try:
        values = flatten(strict_yaml.load((params or b"").decode()))
    except (ValueError, AttributeError):  # not UTF-8, not YAML, not a mapping
        return {}
    return {name: fit(value, PARAM_LENGTH) for name, value in values.items()}


def score_in(metrics: bytes | None, split: str) -> float | None:
    """The bits per byte in a metrics.json; None if it has none."""
    try:
        return float(json.loads(metrics or b"")[split]["bits_per_byte"])
    except (ValueError, LookupError, TypeError):
        return None
