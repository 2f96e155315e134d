"""Sends a journal to MLflow: everything in it once, however often it is sent."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyllm.files import write_text
from tinyllm.tracking.journal import JOURNAL, STATE_FOLDER, project_root

SENT = "sent"  # bytes of the journal that MLflow has
BATCH = 1000  # metrics in a call, MLflow's limit
PARAM_BATCH = 100
VALUE_LENGTH = 500  # characters that any MLflow store takes as a parameter's value
WEIGHTS = "model.safetensors"


class Sender:
    """Sends what is new in one journal at each call of `send`."""

    def __init__(self, folder: Path) -> None:
        from mlflow import MlflowClient

        self.folder = folder
        self.client = MlflowClient()
        self.run_id: str | None = None
        self.header: dict[str, Any] = {}
        self.position = 0
        self.ended = False
        self._resume()

    def _resume(self) -> None:
        """Go on where an earlier sender stopped; the run itself is found again by its tag."""
        sent = self.folder / SENT
        if sent.exists():
            self.position = int(sent.read_text())
            with (self.folder / JOURNAL).open("rb") as file:
                self.header = json.loads(file.readline())

    def send(self) -> None:
        """Send the complete lines not sent yet. Raises whatever MLflow raises; nothing is lost."""
        with (self.folder / JOURNAL).open("rb") as file:
            file.seek(self.position)
            data = file.read()
        end = data.rfind(b"\n") + 1
        metrics: list[Any] = []
        for line in data[:end].splitlines():
            event = json.loads(line)
            if event["kind"] == "metrics":
                metrics += _metrics(event)
                continue
            self._send_metrics(metrics)
            metrics = []
            getattr(self, f"_send_{event['kind']}")(event)
        self._send_metrics(metrics)
        if end:
            self.position += end
            write_text(self.folder / SENT, str(self.position))

    def kill(self, time: int) -> None:
        """Say that the run was killed, which is the truth if its journal has no end."""
        self.client.set_terminated(self._run(), "KILLED", end_time=time)

    def _run(self) -> str:
        if self.run_id is None:
            self.run_id = self._find(self.header) or self._create(self.header)
        return self.run_id

    def _find(self, header: dict[str, Any]) -> str | None:
        """The run of this journal, or, for a stage that adds to another's, the one that made it."""
        experiment = self.client.get_experiment_by_name(header["experiment"])
        if experiment is None:
            return None
        wanted = {"tinyllm.journal": header["id"]}
        if header["model_sha256"]:
            wanted = {"tinyllm.model_sha256": header["model_sha256"]}
        (tag, value), *_ = wanted.items()
        runs = self.client.search_runs(
            [experiment.experiment_id],
            f"tags.`{tag}` = '{value}'",
            order_by=["attributes.start_time DESC"],
            max_results=20,
        )
        same = [run for run in runs if self._same_experiment(run, header)]
        return (same or list(runs))[0].info.run_id if runs else None

    @staticmethod
    def _same_experiment(run: Any, header: dict[str, Any]) -> bool:
        return run.data.tags.get("dvc.experiment") == header["tags"].get("dvc.experiment")

    def _create(self, header: dict[str, Any]) -> str:
        tags = dict(header["tags"])
        tags["tinyllm.journal"] = header["id"]
        if header["model_sha256"]:
            tags["tinyllm.model_sha256"] = header["model_sha256"]
        if header["note"]:
            tags["mlflow.note.content"] = header["note"]
        tags["mlflow.source.name"] = "tinyllm"
        run = self.client.create_run(
            self._experiment(header["experiment"]),
            start_time=header["time"],
            tags=tags,
            run_name=header["name"],
        )
        self._describe(run.info.run_id, header)
        return run.info.run_id

    def _experiment(self, name: str) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            return experiment.experiment_id
        uri = os.environ["MLFLOW_TRACKING_URI"]
        # MLflow would put a local store's artifacts below whatever folder is current.
        place = (project_root() / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
        return self.client.create_experiment(name, artifact_location=place)

    def _describe(self, run_id: str, header: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        params = [Param(k, str(v)[:VALUE_LENGTH]) for k, v in header["params"].items()]
        for first in range(0, len(params), PARAM_BATCH):
            self.client.log_batch(run_id, params=params[first : first + PARAM_BATCH])
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
            for dataset in header["datasets"]
        ]
        if inputs:
            self.client.log_inputs(run_id, inputs)

    def _send_run(self, event: dict[str, Any]) -> None:
        self.header = event
        run_id = self._run()
        if event["model_sha256"]:  # a stage that adds to the run that made the model
            self._describe(run_id, event)

    def _send_metrics(self, metrics: list[Any]) -> None:
        for first in range(0, len(metrics), BATCH):
            self.client.log_batch(self._run(), metrics=metrics[first : first + BATCH])

    def _send_tags(self, event: dict[str, Any]) -> None:
        for key, value in event["values"].items():
            self.client.set_tag(self._run(), key, value)

    def _send_file(self, event: dict[str, Any]) -> None:
        path = self.folder / event["path"]
        if not path.exists():  # sent by an earlier sender, which then removed it
            return
        folder = None if event["folder"] == "." else event["folder"]
        self.client.log_artifact(self._run(), str(path), folder)
        if path.name == WEIGHTS:
            self._log_state_dict(path)

    def _log_state_dict(self, path: Path) -> None:
        import mlflow
        from mlflow.pytorch import log_state_dict
        from safetensors.torch import load_file

        with mlflow.start_run(run_id=self._run()):
            log_state_dict(load_file(path), artifact_path="state_dict")

    def _send_end(self, event: dict[str, Any]) -> None:
        self.client.set_terminated(self._run(), event["status"], end_time=event["time"])
        self.ended = True


def _metrics(event: dict[str, Any]) -> Iterator[Any]:
    from mlflow.entities import Metric

    for key, value in event["values"].items():
        yield Metric(key, value, event["time"], event["step"])


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a journal's lock; gives False if another process holds it."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def pending() -> list[Path]:
    """Journals that MLflow has not got whole, the oldest first."""
    folders = (project_root() / STATE_FOLDER / "journals").glob("*")
    return sorted(folder for folder in folders if (folder / JOURNAL).exists())
