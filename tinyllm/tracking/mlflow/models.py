"""Logs the run's model in MLflow, so that MLflow can load and serve it; once for each run."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyllm.tracking.folders import JOURNAL
from tinyllm.tracking.journal import FILES, events
from tinyllm.tracking.mlflow.refusals import Unsendable
from tinyllm.tracking.mlflow.runs import MODEL_TAG, NOTE_TAG
from tinyllm.tracking.mlflow.values import PARAM_LENGTH, TAG_LENGTH, fit
from tinyllm.tracking.model_record import CODE, FOLDER, MODEL

READY = "READY"
PREFIX = "test/"  # of the metrics that belong to the model


class LoggedModels:
    """Finds and logs the models of one journal.

    Args:
        client: an MlflowClient.
        header: the journal's first line.
        folder: the journal's folder.
    """

    def __init__(self, client: Any, header: dict[str, Any], folder: Path) -> None:
        self.client = client
        self.header = header
        self.folder = folder

    def find(self, run: Any) -> Any | None:
        """The model of a run; None if it was not logged yet."""
        found = [
            model
            for model in self._of_the_weights(run.info.experiment_id)
            if model.source_run_id == run.info.run_id
        ]
        found.sort(key=lambda model: (not is_ready(model), model.creation_timestamp))
        for twin in found[1:]:  # from a call that MLflow answered too late, so that it was repeated
            self.client.delete_logged_model(twin.model_id)
        return found[0] if found else None

    def _of_the_weights(self, experiment: str) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_logged_models(
                [experiment],
                f"tags.`{MODEL_TAG}` = '{self.header['model_sha256']}'",
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def log(self, run_id: str, event: dict[str, Any]) -> None:
        """Log the model of a journal's line, or complete it, with its test scores."""
        run = self.client.get_run(run_id)
        model = self.find(run) or self.client.create_logged_model(
            run.info.experiment_id,
            name=event["name"],
            source_run_id=run_id,
            tags={MODEL_TAG: self.header["model_sha256"]},
            params={name: fit(value, PARAM_LENGTH) for name, value in run.data.params.items()},
        )
        if not is_ready(model):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary, "model")
                self._save(folder, event, model)
                self.client.log_model_artifacts(model.model_id, str(folder))
        self._link(run, model)
        self._log_metrics(run_id, event, model)
        note = event["note"].format(uri=f"models:/{model.model_id}")
        self.client.set_logged_model_tags(model.model_id, {NOTE_TAG: fit(note, TAG_LENGTH)})
        self.client.finalize_logged_model(model.model_id, READY)

    def _save(self, folder: Path, event: dict[str, Any], model: Any) -> None:
        """Write the model as MLflow's folder: the file MLmodel, code, weights, requirements."""
        from mlflow.models import Model, ModelSignature
        from mlflow.pyfunc import save_model

        files = self.folder / FILES / FOLDER
        script = files / CODE / event["script"]
        if not script.is_file() or not (files / MODEL).is_dir():
            raise Unsendable("its files are missing")
        inputs, params = event["example"]
        signature = {name: json.dumps(fields) for name, fields in event["signature"].items()}
        save_model(
            folder,
            python_model=str(script),
            artifacts={MODEL: str(files / MODEL)},
            code_paths=[str(path) for path in sorted((files / CODE).iterdir())],
            signature=ModelSignature.from_dict(signature),
            input_example=(inputs, params),
            pip_requirements=event["requirements"],
            mlflow_model=Model(
                run_id=model.source_run_id,
                model_id=model.model_id,
                model_uuid=model.model_id,
                artifact_path=model.artifact_location,
            ),
        )

    def _link(self, run: Any, model: Any) -> None:
        """Show the model on the run's page."""
        from mlflow.entities import LoggedModelOutput

        outputs = run.outputs.model_outputs if run.outputs else []
        if model.model_id not in {output.model_id for output in outputs}:
            self.client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])

    def _log_metrics(self, run_id: str, event: dict[str, Any], model: Any) -> None:
        """Log the journal's test scores once more, as the model's on the test split.

        In the run they are the same points, which MLflow stores once.
        """
        from mlflow.entities import Metric

        metrics = [
            Metric(
                name, value, line["time"], line["step"], model.model_id,
                dataset_name=event["dataset"]["name"], dataset_digest=event["dataset"]["digest"],
                run_id=run_id,
            )
            for line, _ in events(self.folder / JOURNAL, 0)
            if line is not None and line["kind"] == "metrics"
            for name, value in line["values"].items()
            if name.startswith(PREFIX)
        ]  # fmt: skip
        self.client.log_batch(run_id, metrics=metrics)


def is_ready(model: Any) -> bool:
    """Whether MLflow has all files of a model."""
    return str(model.status) == READY
