"""Sends a journal to MLflow: everything in it once, however often it is sent."""

import getpass
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tinyllm.common.files import project_root, write_text
from tinyllm.sync.database import prepare
from tinyllm.tracking.journal import events
from tinyllm.tracking.places import JOURNAL

SENT = "sent.json"  # how far the journal has been sent, and to where
METRICS = 1000  # in a call, MLflow's limit; its client splits what is more
PARAM_LENGTH, TAG_LENGTH = 6000, 8000  # MLflow's limits, in characters
JOURNAL_TAG, MODEL_TAG = "tinyllm.journal", "tinyllm.model_sha256"
TRAINED_BY_TAG = "tinyllm.trained_by"  # in a run of scores alone: the id of the training's
STAGE_TAG, NOTE_TAG = "mlflow.source.name", "mlflow.note.content"
TRAINING = "stages.train"
WEIGHTS = "model.safetensors"
ACTIVE, DELETED, ALL = 1, 2, 3  # as in mlflow.entities.ViewType, which takes a second to import
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


class Sender:
    """Sends what is new in one journal at each call of `send`.

    Attributes:
        header: the journal's first line.
        run_id: MLflow's run, once it is known.
        ended: whether the journal's last line has been sent.
    """

    def __init__(self, folder: Path) -> None:
        from mlflow import MlflowClient

        self.folder = folder
        self.header = _header(folder)
        prepare(os.environ["MLFLOW_TRACKING_URI"])
        self.client = MlflowClient()
        self.run_id: str | None = None
        self.ended = False
        self._own = True  # False: another stage's run, which this journal adds to
        self._position = 0  # bytes of the journal that MLflow has
        self._resume()

    def _resume(self) -> None:
        """Go on where an earlier sender to the same store stopped, if the run is still there."""
        try:
            sent = json.loads((self.folder / SENT).read_text())
        except (OSError, ValueError):
            return
        if sent["uri"] == os.environ["MLFLOW_TRACKING_URI"] and self._find():
            self._position = sent["position"]

    def send(self) -> None:
        """Send the complete lines not sent yet. Raises whatever MLflow raises; nothing is lost."""
        run_id = self.run_id or self._find() or self._create()
        if self.ended:
            return
        before = self._position
        try:
            self._send_lines(run_id)
        finally:
            if self._position != before:
                sent = {"uri": os.environ["MLFLOW_TRACKING_URI"], "position": self._position}
                write_text(self.folder / SENT, json.dumps(sent))

    def _send_lines(self, run_id: str) -> None:
        metrics: list[Any] = []
        end = self._position
        for event, end in events(self.folder / JOURNAL, self._position):
            if event is None:
                print(f"left out, as it is damaged: the line before byte {end}", flush=True)
                continue
            if event["kind"] == "metrics":
                metrics += _metrics(event)
                if len(metrics) < METRICS:
                    continue
            self._send_metrics(run_id, metrics)
            metrics = []
            if event["kind"] != "metrics":
                getattr(self, f"_send_{event['kind']}")(run_id, event)
            self._position = end
        self._send_metrics(run_id, metrics)
        self._position = end

    def kill(self, time: int) -> None:
        """Say that the run was killed, which is the truth if its journal has no end."""
        assert self.run_id is not None
        self._send_end(self.run_id, {"status": "KILLED", "time": time})

    # Which run

    def _find(self) -> str | None:
        """The run of this journal, or, for a stage that adds to another's, the one that made it."""
        experiment = self.client.get_experiment_by_name(self.header["experiment"])
        if experiment is None:
            return None
        own = self._search(experiment.experiment_id, JOURNAL_TAG, "id")
        for twin in own[1:]:  # of a call that MLflow answered too late, so that it was made again
            self.client.delete_run(twin.info.run_id)
        if not own:  # one that somebody deleted stays so, and gets nothing more
            own = self._search(experiment.experiment_id, JOURNAL_TAG, "id", DELETED)
            self.ended = bool(own)
        runs = own
        if not own and self.header["model_sha256"]:
            runs = list(filter(self._fits, self._of_the_model(experiment.experiment_id)))
        if runs:
            self._own, self.run_id = bool(own), runs[0].info.run_id
        return self.run_id

    def _of_the_model(self, experiment: str) -> list[Any]:
        """The runs with the model that this journal scores; those of its DVC experiment first."""
        runs = self._search(experiment, MODEL_TAG, "model_sha256")
        return sorted(runs, key=self._is_of_another_experiment)

    def _search(self, experiment: str, tag: str, key: str, view: int = ACTIVE) -> list[Any]:
        """The runs whose tag has the value that the header has under `key`, the latest first."""
        return list(
            self.client.search_runs(
                [experiment],
                f"tags.`{tag}` = '{self.header[key]}'",
                run_view_type=view,
                order_by=["attributes.start_time DESC"],
            )
        )

    def _fits(self, run: Any) -> bool:
        """Whether this journal's settings can be added: MLflow's parameters never change.

        Where they cannot, scores made with other settings become a run of their own.
        """
        params = {name: _fit(v, PARAM_LENGTH) for name, v in self.header["params"].items()}
        return all(run.data.params.get(name, value) == value for name, value in params.items())

    def _is_of_another_experiment(self, run: Any) -> bool:
        """Whether another DVC experiment than this one made it: the same model, made again."""
        return run.data.tags.get("dvc.experiment") != self.header["tags"].get("dvc.experiment")

    def _create(self) -> str:
        header = self.header
        tags = {
            STAGE_TAG: f"stages.{header['stage']}",
            "mlflow.user": _user(),
            JOURNAL_TAG: header["id"],
            **header["tags"],
        }
        if header["model_sha256"]:
            tags[MODEL_TAG] = header["model_sha256"]
        if header["note"]:
            tags[NOTE_TAG] = header["note"]
        run = self.client.create_run(
            self._experiment(header["experiment"]),
            start_time=header["time"],
            tags={name: _fit(value, TAG_LENGTH) for name, value in tags.items()},
            run_name=_fit(header["name"], TAG_LENGTH),
        )
        self._own, self.run_id = True, run.info.run_id
        return run.info.run_id

    def _experiment(self, name: str) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            return experiment.experiment_id
        # With a database MLflow would put artifacts below whatever folder is current.
        scheme = urlsplit(os.environ["MLFLOW_TRACKING_URI"]).scheme.split("+")[0]
        place = (project_root() / "mlartifacts").as_uri() if scheme in DATABASES else None
        return self.client.create_experiment(name, artifact_location=place)

    # What is sent

    def _send_run(self, run_id: str, event: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        known = event["params"]
        if self._own and event["model_sha256"]:
            known = self._tie_to_training(run_id) | known
        params = [Param(name, _fit(value, PARAM_LENGTH)) for name, value in known.items()]
        _unless_refused(self.client.log_batch, run_id, params=params)
        inputs = [
            DatasetInput(
                Dataset(
                    name=dataset["name"],
                    digest=dataset["digest"],
                    source_type="local",
                    source=json.dumps({"uri": dataset["source"]}),
                    profile=json.dumps(dataset["profile"]),
                ),
                [InputTag("mlflow.data.context", dataset["role"])],
            )
            for dataset in event["datasets"]
        ]
        if inputs:
            _unless_refused(self.client.log_inputs, run_id, inputs)

    def _tie_to_training(self, run_id: str) -> dict[str, str]:
        """Name in a run of scores alone the run that made the model; return that one's settings."""
        experiment = self.client.get_run(run_id).info.experiment_id
        for run in self._of_the_model(experiment):
            if run.data.tags.get(STAGE_TAG) == TRAINING:
                link = f"[{run.info.run_name}](#/experiments/{experiment}/runs/{run.info.run_id})"
                note = f"{self.header['note']}\n\nThe run that trained it: {link}".lstrip()
                for name, value in ((TRAINED_BY_TAG, run.info.run_id), (NOTE_TAG, note)):
                    _unless_refused(self.client.set_tag, run_id, name, _fit(value, TAG_LENGTH))
                return run.data.params
        return {}

    def _send_metrics(self, run_id: str, metrics: list[Any]) -> None:
        _unless_refused(self.client.log_batch, run_id, metrics=metrics)

    def _send_tags(self, run_id: str, event: dict[str, Any]) -> None:
        for name, value in event["values"].items():
            _unless_refused(self.client.set_tag, run_id, name, _fit(value, TAG_LENGTH))

    def _send_file(self, run_id: str, event: dict[str, Any]) -> None:
        path = self.folder / event["path"]
        folder = None if event["folder"] == "." else event["folder"]
        _unless_refused(self.client.log_artifact, run_id, str(path), folder)
        if path.name == WEIGHTS:
            _unless_refused(_log_state_dict, run_id, path)

    def _send_resume(self, run_id: str, _event: dict[str, Any]) -> None:
        _unless_refused(self.client.update_run, run_id, status="RUNNING")
        self.ended = False

    def _send_end(self, run_id: str, event: dict[str, Any]) -> None:
        if self._own:
            end = self.client.set_terminated
            _unless_refused(end, run_id, event["status"], end_time=event["time"])
        else:  # that run has its own end, and its own truth about it
            name = f"tinyllm.{self.header['stage']}"
            _unless_refused(self.client.set_tag, run_id, name, event["status"])
        self.ended = True


def _header(folder: Path) -> dict[str, Any]:
    """A journal's first line."""
    with (folder / JOURNAL).open("rb") as file:
        try:
            return json.loads(file.readline())
        except ValueError:
            raise ValueError(f"{folder / JOURNAL}: its first line is damaged") from None


def _metrics(event: dict[str, Any]) -> Iterator[Any]:
    from mlflow.entities import Metric

    for name, value in event["values"].items():
        yield Metric(name, value, event["time"], event["step"])


def _log_state_dict(run_id: str, path: Path) -> None:
    """Log a model folder's weights as `TinyLLM.load_state_dict` takes them."""
    import mlflow
    from mlflow.pytorch import log_state_dict
    from safetensors.torch import load_file

    from tinyllm.model.export import from_hub

    # The run's status is set anew when the journal ends.
    with mlflow.start_run(run_id, log_system_metrics=False):
        log_state_dict(from_hub(load_file(path)), artifact_path="state_dict")


def _unless_refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Go on without what MLflow refuses for good, such as anything for a run that was deleted.

    It would refuse it again each time, and the rest of the journal would never be sent.
    """
    from mlflow.exceptions import MlflowException

    try:
        call(*arguments, **options)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        print(f"refused: {error}", flush=True)


def _fit(value: Any, length: int) -> str:
    """A value as MLflow takes it: text, not too long, valid in UTF-8."""
    return str(value)[:length].encode("utf-8", "replace").decode()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return "unknown"
