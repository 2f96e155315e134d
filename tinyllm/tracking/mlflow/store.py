"""Sends a journal to MLflow; sending it again changes nothing."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinyllm.common.files import publish_file
from tinyllm.tracking.folders import JOURNAL
from tinyllm.tracking.journal import events
from tinyllm.tracking.masking import masked
from tinyllm.tracking.mlflow import notes
from tinyllm.tracking.mlflow.calls import DESCRIPTION, STATUS, Calls, Item, metrics_of
from tinyllm.tracking.mlflow.database import prepare
from tinyllm.tracking.mlflow.refusals import Key, Refusals, Unsendable, reason_of
from tinyllm.tracking.mlflow.runs import Runs, read_header

SENT = "sent.json"  # the position up to which the journal was sent, and the store
METRICS = 1000  # per call: MLflow's limit, above which its client splits calls
MOST_REFUSALS = 50  # per attempt; more are treated as an outage


class RunDeleted(Exception):
    """The run was deleted in MLflow; nothing more is sent to it."""


class Sender:
    """Sends the new lines of one journal at each call of `send`.

    Attributes:
        header: the journal's first line.
        run_id: id of the MLflow run, once it is known.
        ended: whether the journal's last line has been sent.
        refusals: items that MLflow refused, to be sent later.
    """

    def __init__(self, folder: Path) -> None:
        from mlflow import MlflowClient

        self.folder = folder
        self.header = read_header(folder)
        prepare(os.environ["MLFLOW_TRACKING_URI"])
        self.client = MlflowClient()
        self.runs = Runs(self.client, self.header)
        self.run_id = ""
        self.ended = False
        self.refusals = Refusals()
        self._calls = Calls(self.runs, folder, self._say)
        self._position = 0  # bytes of the journal that were sent
        self._deleted = False
        self._refused = 0  # items in this attempt
        self._printed: set[str] = set()
        self._resume()

    def _resume(self) -> None:
        """Continue where an earlier sender to the same store stopped, if the run still exists."""
        refusals = Refusals()
        try:
            sent = json.loads((self.folder / SENT).read_text(encoding="utf-8"))
            position, ended, store = int(sent["position"]), bool(sent["ended"]), sent["store"]
            refusals.restore(sent["refused"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return  # missing or corrupt: everything is sent again
        if store == masked(os.environ["MLFLOW_TRACKING_URI"]) and self._find():
            self._position, self.refusals = position, refusals
            self.ended = ended

    def _find(self) -> bool:
        """Search for the run. Returns whether it exists."""
        if found := self.runs.find():
            run, own = found
            self.run_id = run.info.run_id
            self._calls.belong_to(self.run_id, own=own)
            self._deleted = run.info.lifecycle_stage == "deleted"  # it stays deleted
        return bool(found)

    def send(self, *, everything: bool = False) -> None:
        """Send what is new, and the refused items that are due, or all of them.

        Raises:
            Exception: MLflow accepts nothing at all; everything is kept for the next attempt.
        """
        if not self.run_id and not self._find():
            self.run_id = self.runs.create().info.run_id
            self._calls.belong_to(self.run_id, own=True)
        before, self._refused = self._state(), 0
        try:
            if self._deleted:
                raise RunDeleted
            self._send_new()
            self._send_refused(everything=everything)
        except RunDeleted:
            self._say("the run was deleted in MLflow; nothing more of it is sent")
            self._deleted = self.ended = True
            self.refusals = Refusals()
        finally:
            self._keep_state(before)

    def kill(self, time: int) -> None:
        """Set the run's status to killed, for a journal without an end."""
        before = self._state()
        for items, call in self._calls.end(-1, "KILLED", time, notes.VANISHED):
            call([thing for _, thing in items])
        self.ended = True
        self._keep_state(before)

    def _state(self) -> dict[str, Any]:
        return {
            "store": masked(os.environ["MLFLOW_TRACKING_URI"]),
            "position": self._position,
            "ended": self.ended,
            "refused": self.refusals.as_json(),
        }

    def _keep_state(self, before: dict[str, Any]) -> None:
        if (state := self._state()) != before:
            with publish_file(self.folder / SENT) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_text(json.dumps(state), encoding="utf-8")

    # Order of sending

    def _send_new(self) -> None:
        """Send the complete lines not sent yet; files and models come last: they may take long."""
        metrics: list[Item] = []
        begin = self._position
        for event, end in events(self.folder / JOURNAL, self._position):
            of_metrics = event is not None and event["kind"] == "metrics"
            if event is not None and of_metrics:
                metrics += metrics_of(begin, event)
            if not of_metrics or len(metrics) >= METRICS:
                self._deliver(metrics, self._calls.log_metrics)
                metrics = []
                if event is None:
                    self._say(f"skipped: the line before byte {end} is corrupt")
                elif not of_metrics:
                    self._send_event(begin, event)
                self._position = end
            begin = end
        self._deliver(metrics, self._calls.log_metrics)
        self._position = begin

    def _send_event(self, begin: int, event: dict[str, Any]) -> None:
        if event["kind"] in ("end", "resume"):
            self.refusals.drop(STATUS, DESCRIPTION)  # of an earlier end
        for items, call in self._calls.of(begin, event):
            if event["kind"] in ("file", "model"):
                self.refusals.add(items[0][0])
            else:
                self._deliver(items, call)
        self.ended = event["kind"] == "end"

    def _send_refused(self, *, everything: bool) -> None:
        """Try refused items once more, and files for the first time."""
        due = self.refusals.due(everything=everything)
        for begin in dict.fromkeys(begin for begin, _ in due):
            event, _ = next(events(self.folder / JOURNAL, begin), (None, 0))
            for items, call in self._calls.of(begin, event) if event else ():
                self._deliver([item for item in items if item[0] in due], call)

    def _deliver(self, items: list[Item], call: Callable[[list[Any]], object]) -> None:
        """Send items in one call; if it is refused, send halves, so that only some items fail."""
        if not items:
            return
        try:
            call([thing for _, thing in items])
        except Unsendable as error:
            self._leave_out(items[0][0], str(error))
        except Exception as error:  # of any kind
            self._demand_that_others_pass(error)
            if len(items) > 1:
                middle = len(items) // 2
                self._deliver(items[:middle], call)
                self._deliver(items[middle:], call)
            elif _is_final(error) and not isinstance(items[0][1], Path):
                self._leave_out(items[0][0], reason_of(error))
            else:
                self.refusals.refuse(items[0][0], reason_of(error))
        else:
            for key, _ in items:
                self.refusals.kept.pop(key, None)

    def _demand_that_others_pass(self, error: Exception) -> None:
        """Raise an error that is not about the sent items: an outage, or a deleted run."""
        from mlflow.exceptions import MlflowException

        self._refused += 1
        if self._refused > MOST_REFUSALS:
            raise error
        with suppress(Exception):  # of any kind: MLflow accepts nothing, for a reason below
            self._calls.probe()
            return
        try:
            run = self.client.get_run(self.run_id)
            if run.info.lifecycle_stage != "deleted":
                raise error
            self.runs.demand_experiment(self.client.get_experiment(run.info.experiment_id))
        except MlflowException as other:
            if other.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise error from None
        raise RunDeleted

    def _leave_out(self, key: Key, reason: str) -> None:
        self.refusals.kept.pop(key, None)
        self._say(f"skipped: {key[1]}: {reason}")

    def _say(self, text: str) -> None:
        if text not in self._printed:
            print(f"{self.folder.name}: {text}", flush=True)
            self._printed.add(text)


def has_arrived(folder: Path) -> bool:
    """Whether MLflow has all of an ended stage's journal, except what it refused."""
    try:
        sent = json.loads((folder / SENT).read_text(encoding="utf-8"))
        return bool(sent["ended"] and sent["store"] == masked(os.environ["MLFLOW_TRACKING_URI"]))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _is_final(error: Exception) -> bool:
    """Whether MLflow or its client will never accept the item."""
    refused = getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"
    return refused or isinstance(error, (TypeError, OverflowError))
