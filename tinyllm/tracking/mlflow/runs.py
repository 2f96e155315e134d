"""Finds the MLflow run of a journal by its tags, or creates it."""

import getpass
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tinyllm.common.files import project_root
from tinyllm.tracking.folders import JOURNAL
from tinyllm.tracking.journal import FIELDS
from tinyllm.tracking.mlflow.database import ARTIFACTS
from tinyllm.tracking.mlflow.pages import description
from tinyllm.tracking.mlflow.refusals import reason_of
from tinyllm.tracking.mlflow.values import (
    EXPERIMENT_LENGTH,
    PARAM_LENGTH,
    TAG_LENGTH,
    fit,
    fit_name,
)

# MLflow's page shows no tag that starts with "mlflow.": these are of no use to its readers.
JOURNAL_TAG = "mlflow.tinyllm.journal"
PARENT_TAG = "mlflow.tinyllm.parent_journal"  # the journal whose run has this one as a child
PARENT_RUN_TAG = "mlflow.parentRunId"
MODEL_TAG = "tinyllm.model_sha256"
STAGE_TAG, NOTE_TAG = "mlflow.source.name", "mlflow.note.content"
TRAINING = "stages.train"
ACTIVE, DELETED, ALL = 1, 2, 3  # as in mlflow.entities.ViewType, which takes a second to import
SHOWN = 120  # characters shown of an experiment's name
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


class ExperimentDeleted(RuntimeError):
    """The experiment was deleted in MLflow; its runs wait until it is restored."""


class Runs:
    """The runs that belong to a journal.

    Args:
        client: an MlflowClient.
        header: the journal's first line.
    """

    def __init__(self, client: Any, header: dict[str, Any]) -> None:
        self.client = client
        self.header = header
        self.experiment_name = fit(header["experiment"], EXPERIMENT_LENGTH)

    def find(self) -> tuple[Any, bool] | None:
        """Find the journal's own run, or the run of the model that its stage adds to.

        Returns:
            The run, and whether it is the journal's own.

        Raises:
            ExperimentDeleted: the experiment was deleted.
        """
        experiment = self._experiment()
        if experiment is None:
            return None
        own = self._search(experiment, JOURNAL_TAG, self.header["id"])
        for twin in own[1:]:  # from a call that MLflow answered too late, so that it was repeated
            with suppress(Exception):  # of any kind: on a team's server not all may delete runs
                self.client.delete_run(twin.info.run_id)
        own = own or self._search(experiment, JOURNAL_TAG, self.header["id"], DELETED)
        if own:
            return own[0], True
        if self.header["model_sha256"]:
            fitting = list(filter(self._fits, self.of_the_model(experiment)))
            if fitting:
                return fitting[0], False
        return None

    def create(self) -> Any:
        """Create the journal's own run, with the tags that `find` searches for."""
        header = self.header
        tags = {
            STAGE_TAG: f"stages.{header['stage']}",
            "mlflow.user": _user(),
            JOURNAL_TAG: header["id"],
        }
        if header["model_sha256"]:
            tags[MODEL_TAG] = header["model_sha256"]
        experiment = self._experiment() or self._create_experiment()
        self._describe(experiment)
        if parent := self.parent(experiment):
            tags[PARENT_RUN_TAG] = parent
        return self.client.create_run(
            experiment,
            start_time=header["time"],
            tags={name: fit(value, TAG_LENGTH) for name, value in tags.items()},
            run_name=fit(header["name"], TAG_LENGTH),
        )

    def parent(self, experiment: str) -> str | None:
        """The id of the run that has this journal's run as a child; None if it is not there."""
        name = self.header["tags"].get(PARENT_TAG)
        found = self._search(experiment, JOURNAL_TAG, name) if name else []
        return found[0].info.run_id if found else None

    def lacks_parent(self) -> bool:
        """Whether the parent of this journal's run has to be sent before it."""
        if PARENT_TAG not in self.header["tags"]:
            return False
        experiment = self._experiment()
        return experiment is None or self.parent(experiment) is None

    def of_the_model(self, experiment: str) -> list[Any]:
        """The runs of the model that this journal scores, those with the same twin tag first."""
        runs = self._search(experiment, MODEL_TAG, self.header["model_sha256"])
        return sorted(runs, key=self._is_a_twin)

    def demand_experiment(self, experiment: Any) -> None:
        """Raise ExperimentDeleted, with how to restore it, if the experiment was deleted."""
        if experiment.lifecycle_stage == "deleted":
            raise ExperimentDeleted(
                f"the experiment {experiment.name[:SHOWN]!r} was deleted in MLflow. To restore it: "
                f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`; to use "
                "another for new runs: runtime.experiment in params.yaml"
            )

    def _experiment(self) -> str | None:
        """The id of the journal's experiment; None if it does not exist."""
        experiment = self.client.get_experiment_by_name(self.experiment_name)
        if experiment is None:
            return None
        self.demand_experiment(experiment)
        return experiment.experiment_id

    def _create_experiment(self) -> str:
        scheme = urlsplit(os.environ["MLFLOW_TRACKING_URI"]).scheme.split("+")[0]
        place = (project_root() / ARTIFACTS).as_uri() if scheme in DATABASES else None
        try:
            return self.client.create_experiment(self.experiment_name, artifact_location=place)
        except Exception as error:  # of any kind; the message names the experiment
            raise RuntimeError(
                f"MLflow can't create the experiment {self.experiment_name[:SHOWN]!r} "
                f"(runtime.experiment in params.yaml): {reason_of(error)}"
            ) from None

    def _describe(self, experiment: str) -> None:
        """Describe an experiment that has no description, not even an empty one."""
        with suppress(Exception):  # of any kind: the run counts, not the description
            if NOTE_TAG not in self.client.get_experiment(experiment).tags:
                self.client.set_experiment_tag(experiment, NOTE_TAG, description(experiment))

    def _search(self, experiment: str, tag: str, value: str, view: int = ACTIVE) -> list[Any]:
        """The runs whose tag has a value, latest first."""
        return list(
            self.client.search_runs(
                [experiment],
                f"tags.`{tag}` = '{value}'",
                run_view_type=view,
                order_by=["attributes.start_time DESC"],
            )
        )

    def _fits(self, run: Any) -> bool:
        """Whether this journal's settings can be added to a run: MLflow's parameters never change.

        If they can't, the scores become a separate run.
        """
        wanted = {fit_name(k): fit(v, PARAM_LENGTH) for k, v in self.header["params"].items()}
        return all(run.data.params.get(name, value) == value for name, value in wanted.items())

    def _is_a_twin(self, run: Any) -> bool:
        """Whether a run comes from elsewhere and only trained the same model."""
        tag = self.header["twin_tag"]
        return run.data.tags.get(tag) != self.header["tags"].get(tag)


def read_header(folder: Path) -> dict[str, Any]:
    """Read a journal's first line.

    Raises:
        ValueError: the line is corrupt.
    """
    with (folder / JOURNAL).open("rb") as file:
        try:
            header = json.loads(file.readline())
            if not FIELDS["run"] <= header.keys():
                raise LookupError
            return {"model_sha256": None, "twin_tag": None, "datasets": [], **header}
        except (ValueError, LookupError, AttributeError):
            raise ValueError(f"{folder / JOURNAL}: its first line is corrupt") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return "unknown"
