"""What MLflow holds of a run, read for `tinyllm reproduce` and `tinyllm lineage`."""

import ast
import json
import os
import re
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tinyllm.common.files import CHECKSUMS
from tinyllm.experiments import run_files
from tinyllm.experiments.difference import choose
from tinyllm.experiments.model_address import RUN_ARTIFACT
from tinyllm.experiments.runs import Run, from_mlflow, project_runs
from tinyllm.model_card.facts import FACTS
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import flatten
from tinyllm.tracking.mlflow.refusals import reason_of
from tinyllm.tracking.mlflow.runs import MODEL_TAG, NOTE_TAG, STAGE_TAG, TRAINING
from tinyllm.tracking.mlflow.values import PARAM_LENGTH, fit
from tinyllm.tracking.origin import PATCH

COMMIT_TAG, DIRTY_TAG = "mlflow.source.git.commit", "git.dirty"
REPRODUCES = "tinyllm.reproduces"  # the id of the run that a reproduction repeats
RESOLVED = "resolved."  # prefix of parameters that the run derived from settings and machine
BY_TRAINING = f"tags.`{STAGE_TAG}` = '{TRAINING}'"
RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Recorded:
    """A run in MLflow. Its files are downloaded when they are first read.

    Attributes:
        entry: MLflow's run.
        run: the same, as `tinyllm compare` lists it.
    """

    entry: Any
    run: Run
    _files: dict[str, bytes | None] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return str(self.entry.info.run_id)

    @property
    def title(self) -> str:
        """Name and beginning of the id."""
        return f"{self.run.name} ({self.run_id[:7]})"

    @property
    def tags(self) -> dict[str, str]:
        return dict(self.entry.data.tags)

    @property
    def commit(self) -> str | None:
        return self.tags.get(COMMIT_TAG)

    @property
    def weights(self) -> str | None:
        """SHA-256 of the weights; None if the training did not finish."""
        return self.tags.get(MODEL_TAG)

    @property
    def resolved(self) -> dict[str, str]:
        """What the run computed with: device, threads, precision, versions; empty if unknown."""
        return {
            name.removeprefix(RESOLVED): value
            for name, value in self.entry.data.params.items()
            if name.startswith(RESOLVED)
        }

    def file(self, name: str) -> bytes | None:
        """The content of one of the run's files; None if it has no such file.

        Raises:
            ValueError: MLflow does not answer.
        """
        if name not in self._files:
            self._files[name] = _download(self.run_id, name)
        return self._files[name]

    def _json(self, name: str) -> dict[str, Any]:
        content = self.file(name)
        try:
            return dict(json.loads(content or b"{}"))
        except ValueError:
            raise ValueError(f"{self.title}: {name} is corrupt in MLflow") from None

    @cached_property
    def state(self) -> dict[str, Any]:
        """What the run's commit lacks: see `Provenance.files`; empty for a run without it."""
        return self._json(run_files.STATE)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """See `run_files.environment`; empty for a run without it."""
        return self._json(run_files.ENVIRONMENT)

    @cached_property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file of the model folder."""
        return self._json(f"{RUN_ARTIFACT}/{CHECKSUMS}")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The model folder's training.json."""
        return self._json(f"{RUN_ARTIFACT}/{FACTS}")

    @cached_property
    def lock(self) -> dict[str, Any]:
        """The stages of dvc.lock that made the data; empty for a run without them."""
        content = self.file(run_files.LOCK)
        return strict_yaml.load(content.decode()) if content else {}

    @property
    def has_patch(self) -> bool:
        """Whether the run's code differs from its commit by a patch."""
        return bool(self.state.get("patch")) or f" {PATCH} " in self.tags.get(NOTE_TAG, "")

    def settings(self, committed: dict[str, Any]) -> dict[str, Any]:
        """The settings of the run: sections of keys.

        Args:
            committed: those of its commit, for a run that has no copy of its own.
        """
        own = self.file(run_files.PARAMS)
        settings = deepcopy(strict_yaml.load(own.decode()) if own else committed)
        for name, value in flatten(settings).items():
            text = self.entry.data.params.get(name)
            if text is not None and text != fit(value, PARAM_LENGTH):
                section, _, key = name.rpartition(".")
                (settings[section] if section else settings)[key] = _value(text)
        return settings


def _value(text: str) -> Any:
    """The value of a setting that MLflow holds as text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def recorded(name: str) -> Recorded:
    """Find a run by its name, its experiment's name, or the beginning of its id.

    Raises:
        ValueError: there is none, or MLflow does not answer.
    """
    runs = project_runs()
    if RUN_ID.fullmatch(name) and name not in {run.run_id for run in runs}:
        return by_id(name)  # of another MLflow experiment
    run = choose(runs, name)
    if run.run_id is None:
        raise ValueError(
            f"{name}: MLflow has no run of this experiment of DVC; "
            f"`dvc exp apply {run.name} && tinyllm rebuild` makes one"
        )
    return by_id(run.run_id, run)


def by_id(run_id: str, run: Run | None = None) -> Recorded:
    """Read a run of MLflow by its complete id.

    Raises:
        ValueError: there is none, or MLflow does not answer.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        entry = MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise ValueError(f"{run_id}: {reason_of(error)}") from None
    return Recorded(entry, run or from_mlflow(entry))


def of_weights(sha256: str) -> list[Recorded]:
    """The runs of the project that trained these weights: the latest first, reproductions last.

    Raises:
        ValueError: MLflow does not answer.
    """
    runs = project_runs(f"tags.`{MODEL_TAG}` = '{sha256}' and {BY_TRAINING}")
    found = [by_id(run.run_id, run) for run in runs if run.run_id]
    return sorted(found, key=lambda run: REPRODUCES in run.tags)


def _download(run_id: str, name: str) -> bytes | None:
    from mlflow.artifacts import download_artifacts, list_artifacts
    from mlflow.exceptions import MlflowException

    folder, _, _ = name.rpartition("/")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        held = list_artifacts(run_id=run_id, artifact_path=folder or None)
        if name not in {item.path for item in held}:
            return None
        with tempfile.TemporaryDirectory(prefix="tinyllm-run-") as target:
            return Path(
                download_artifacts(run_id=run_id, artifact_path=name, dst_path=target)
            ).read_bytes()
    except (MlflowException, OSError) as error:
        raise ValueError(f"run {run_id[:7]}: {name}: {reason_of(error)}") from None
