"""Translates each line of a journal into calls to MLflow."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tinyllm.tracking.journal import FILES
from tinyllm.tracking.mlflow import notes
from tinyllm.tracking.mlflow.models import LoggedModels, is_ready
from tinyllm.tracking.mlflow.refusals import Key, Unsendable
from tinyllm.tracking.mlflow.registry import Registry
from tinyllm.tracking.mlflow.runs import NOTE_TAG, STAGE_TAG, TRAINING, Runs
from tinyllm.tracking.mlflow.values import PARAM_LENGTH, TAG_LENGTH, fit, fit_name
from tinyllm.tracking.model_record import Candidate

TRAINED_BY_TAG = "tinyllm.trained_by"  # in a run with scores only: the id of the training run
PROBE_TAG = "mlflow.tinyllm.last_refusal"  # only checks whether MLflow accepts writes
STATUS, DESCRIPTION = "status", "description"
WEIGHTS, STATE_DICT = "model.safetensors", "state_dict"

Item = tuple[Key, Any]  # what to send, and its key in the journal
Call = tuple[list[Item], Callable[[list[Any]], object]]  # the items of one call, and the call


class Calls:
    """Makes the calls for the lines of one journal.

    Args:
        runs: finds the journal's runs.
        folder: the journal's folder.
        say: prints a line about a value that can't be sent unchanged.
    """

    def __init__(self, runs: Runs, folder: Path, say: Callable[[str], None]) -> None:
        self.runs = runs
        self.client = runs.client
        self.folder = folder
        self.say = say
        self.run_id = ""
        self.own = True  # False: another stage's run, which this journal adds to

    def belong_to(self, run_id: str, *, own: bool) -> None:
        """Set the run to send to, and whether it is this journal's own."""
        self.run_id, self.own = run_id, own

    def of(self, begin: int, event: dict[str, Any]) -> Iterator[Call]:
        """The calls for a line, split as MLflow requires."""
        match event["kind"]:
            case "run":
                yield from self._run(begin, event)
            case "metrics":
                yield metrics_of(begin, event), self.log_metrics
            case "tags":
                yield self._tags(begin, event["values"]), self._log_tags
            case "file":
                path = self.folder / event["path"]
                name = event["path"].removeprefix(f"{FILES}/")
                yield [((begin, name), path)], self._log_file(event["folder"])
                if path.name == WEIGHTS:
                    yield [((begin, f"{name} as {STATE_DICT}"), path)], self._log_state_dict
            case "model":
                yield from self._model(begin, event)
            case "resume":
                yield from self.end(begin, "RUNNING", None, "")
            case "end":
                yield from self.end(begin, event["status"], event["time"], event.get("reason", ""))

    def _run(self, begin: int, event: dict[str, Any]) -> Iterator[Call]:
        from mlflow.entities import Param

        params, tags = event["params"], {**event["tags"], NOTE_TAG: event["note"]}
        if self.own:
            run = self.client.get_run(self.run_id)
            if event.get("model_sha256"):
                tied_tags, tied_params = self._training(run.info.experiment_id, event["note"])
                params, tags = tied_params | params, tags | tied_tags
            # Existing values may have been edited in MLflow.
            new = {name: v for name, v in tags.items() if v and name not in run.data.tags}
            yield self._tags(begin, new), self._log_tags
        named = [(fit_name(name), value) for name, value in params.items()]
        items: list[Item] = [
            ((begin, f"parameter {name}"), Param(name, self._fit(name, value, PARAM_LENGTH)))
            for name, value in named
        ]
        yield items, self._log_params
        for dataset in event.get("datasets", []):
            key = (begin, f"dataset {dataset['name']}")
            yield [(key, _dataset_input(dataset))], self._log_inputs

    def _model(self, begin: int, event: dict[str, Any]) -> Iterator[Call]:
        """Two calls: if the registry refuses the model, it is in its run all the same."""
        models = LoggedModels(self.client, self.runs.header, self.folder)
        item: Item = ((begin, f"the MLflow model {event['name']!r}"), self.folder)
        yield [item], lambda _: models.log(self.run_id, event)
        if event.get("candidate"):
            candidate = Candidate(**event["candidate"])

            def register(_: list[Any]) -> None:
                model = models.find(self.client.get_run(self.run_id))
                if model is None or not is_ready(model):
                    raise RuntimeError("the model is not in its run yet")
                Registry(self.client, self.folder, self.say).register(model, candidate)

            yield [((begin, f"a version of {candidate.name!r}"), self.folder)], register

    def _training(self, experiment: str, note: str) -> tuple[dict[str, str], dict[str, str]]:
        """For a run with scores only: tags naming the run that trained the model; its settings."""
        for run in self.runs.of_the_model(experiment):
            if run.data.tags.get(STAGE_TAG) == TRAINING:
                link = f"[{run.info.run_name}](#/experiments/{experiment}/runs/{run.info.run_id})"
                note = f"{note}\n\nThe run that trained it: {link}".lstrip()
                return {TRAINED_BY_TAG: run.info.run_id, NOTE_TAG: note}, run.data.params
        return {}, {}

    def end(self, begin: int, status: str, time: int | None, reason: str) -> Iterator[Call]:
        """Record how the stage ended; as tags in another stage's run, which has its own end."""
        tags = self.client.get_run(self.run_id).data.tags
        if not self.own:
            name = f"tinyllm.{self.runs.header['stage']}"
            new = {name: status}
            if reason or f"{name}.reason" in tags:
                new[f"{name}.reason"] = reason
            yield self._tags(begin, new), self._log_tags
            return
        yield [((begin, STATUS), (status, time))], self._set_status
        before = tags.get(NOTE_TAG, "")
        note = notes.with_reason(before, status, reason)
        if note != before:
            from mlflow.entities import RunTag

            yield [((begin, DESCRIPTION), RunTag(NOTE_TAG, fit(note, TAG_LENGTH)))], self._log_tags

    def _tags(self, begin: int, values: dict[str, Any]) -> list[Item]:
        from mlflow.entities import RunTag

        return [
            ((begin, f"tag {name}"), RunTag(fit_name(name), self._fit(name, value, TAG_LENGTH)))
            for name, value in values.items()
        ]

    def _fit(self, name: str, value: Any, length: int) -> str:
        text = fit(value, length)
        if text != str(value):
            self.say(f"{name}: escaped, or cut to {length:,} characters, for MLflow")
        return text

    # Sending

    def log_metrics(self, metrics: list[Any]) -> None:
        self.client.log_batch(self.run_id, metrics=metrics)

    def probe(self) -> None:
        """Write an insignificant tag; raises MLflow's error if MLflow accepts nothing."""
        from mlflow.entities import RunTag

        self._log_tags([RunTag(PROBE_TAG, str(time.time_ns()))])

    def _log_tags(self, tags: list[Any]) -> None:
        self.client.log_batch(self.run_id, tags=tags)

    def _log_params(self, params: list[Any]) -> None:
        self.client.log_batch(self.run_id, params=params)

    def _log_inputs(self, inputs: list[Any]) -> None:
        self.client.log_inputs(self.run_id, inputs)

    def _set_status(self, ends: list[tuple[str, int | None]]) -> None:
        for status, when in ends:
            if when is None:
                self.client.update_run(self.run_id, status=status)
            else:
                self.client.set_terminated(self.run_id, status, end_time=when)

    def _log_file(self, folder: str) -> Callable[[list[Any]], None]:
        def log(paths: list[Path]) -> None:
            for path in paths:
                _demand(path)
                self.client.log_artifact(self.run_id, str(path), None if folder == "." else folder)

        return log

    def _log_state_dict(self, paths: list[Path]) -> None:
        """Log a model folder's weights in the form that `TinyLLM.load_state_dict` accepts."""
        from mlflow.pytorch import save_state_dict

        from tinyllm.models.folder import load_network

        for path in paths:
            _demand(path)
            try:
                weights = load_network(path.parent).state_dict()
            except ValueError as error:
                raise Unsendable(f"the model folder is corrupt ({error})") from None
            with tempfile.TemporaryDirectory() as folder:
                save_state_dict(weights, folder)
                self.client.log_artifacts(self.run_id, folder, STATE_DICT)


def metrics_of(begin: int, event: dict[str, Any]) -> list[Item]:
    """The metrics of a line."""
    from mlflow.entities import Metric

    when, step = event["time"], event["step"]
    return [
        ((begin, f"metric {name}"), Metric(fit_name(name), value, when, step))
        for name, value in event["values"].items()
    ]


def _dataset_input(dataset: dict[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(
        Dataset(
            name=dataset["name"],
            digest=dataset["digest"],
            source_type="local",
            source=json.dumps({"uri": dataset["source"]}),
            profile=json.dumps(dataset["profile"]),
        ),
        [InputTag("mlflow.data.context", dataset["role"])],
    )


def _demand(path: Path) -> None:
    if not path.is_file():
        raise Unsendable("the file is missing")
