"""The validation scores of a training that runs, read from its record."""

from pathlib import Path

from tinyllm.experiments.provenance import EXPERIMENT_TAG
from tinyllm.tracking.folders import JOURNAL, journals_folder
from tinyllm.tracking.journal import add_tags, events
from tinyllm.tracking.mlflow.runs import read_header

PRUNED_TAG = "tinyllm.sweep.pruned"  # of a run that was stopped because it was hopeless


class TrainingWatch:
    """Reads one training's record as it grows.

    Args:
        experiment: name of DVC's experiment.
        sweep: value of the tag that all trials of the sweep have.
        tag: that tag.
        metric: name of the score in the record.
    """

    def __init__(self, experiment: str, tag: str, sweep: str, metric: str) -> None:
        self.wanted = {EXPERIMENT_TAG: experiment, tag: sweep}
        self.metric = metric
        self._journal: Path | None = None
        self._position = 0
        self._last = -1

    def new_scores(self) -> list[tuple[int, float]]:
        """The evaluations since the last call: step and score of each."""
        self._journal = self._journal or self._find()
        if self._journal is None:
            return []
        found = []
        try:
            for event, end in events(self._journal / JOURNAL, self._position):
                self._position = end
                if event is None or event["kind"] != "metrics":
                    continue
                if self.metric in event["values"] and event["step"] > self._last:
                    self._last = event["step"]
                    found.append((self._last, event["values"][self.metric]))
        except FileNotFoundError:  # sent to MLflow, so the training has ended
            pass
        return found

    def mark(self, reason: str) -> None:
        """Record in the run why the training is stopped."""
        if self._journal is not None:
            try:
                add_tags(self._journal, {PRUNED_TAG: reason})
            except OSError as error:
                print(f"MLflow will not show why a trial was pruned: {error}")

    def _find(self) -> Path | None:
        for folder in sorted(journals_folder().glob("[!.]*-train"), reverse=True):
            try:
                tags = read_header(folder)["tags"]
            except (ValueError, OSError):  # of another run, corrupt or sent now
                continue
            if self.wanted.items() <= tags.items():
                return folder
        return None
