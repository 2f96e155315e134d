"""The MLflow run of a whole sweep, which has the runs of its trials as children."""

import json
from pathlib import Path
from types import TracebackType

from tinyllm.experiments.runs import SWEEP_RUN_TAG
from tinyllm.experiments.sweep.settings import Sweep
from tinyllm.experiments.sweep.trials import Trials
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.mlflow.runs import PARENT_TAG

SWEEP_TAG = "tinyllm.sweep"  # the sweep's identity, in its run and in those of its trials
BOOKMARK = "journal"  # in a sweep's folder: the name of its journal


class ParentRun:
    """Records a sweep; use it as a context manager.

    Args:
        folder: the sweep's.
        head: the commit that the sweep starts from.
        identity: value of the tag that all its runs have.
    """

    def __init__(self, folder: Path, sweep: Sweep, head: str, identity: str) -> None:
        content = sweep.content.model_dump(by_alias=True, exclude_none=True)
        params = {f"sweep.{key}": value for key, value in content.items() if key not in PARTS}
        for part in PARTS:
            for name, value in content[part].items():
                params[f"sweep.{part}.{name}"] = json.dumps(value)
        self.identity = identity
        self.sweep = sweep
        header = Header(
            stage="sweep",
            name=identity,
            params=params,
            tags={SWEEP_TAG: identity, SWEEP_RUN_TAG: "0", "mlflow.source.git.commit": head},
            note=f"A sweep over {', '.join(sweep.space)}. Its trials are the runs below it; "
            f"{sweep.content.metric} decides ({sweep.direction}).",
        )
        self.journal = Journal(header, sweep.params.runtime, folder / BOOKMARK, reopen=True)

    def tags(self) -> dict[str, str]:
        """The tags of the runs of the sweep's trials."""
        return {SWEEP_TAG: self.identity, PARENT_TAG: self.journal.folder.name}

    def update(self, trials: Trials) -> None:
        """Record the trials that have finished; those recorded before are not repeated."""
        best = None
        finished = [trial for trial in trials.all() if trial.ended is not None]
        for count, trial in enumerate(sorted(finished, key=lambda trial: trial.ended or 0), 1):
            values = {"sweep/seconds": trial.seconds}
            if trial.state == "complete":
                best = min(filter(None, (best, trial)), key=trials.rank)
                values["sweep/value"] = trial.value
            values["sweep/best"] = None if best is None else best.value
            self.journal.metrics(count, {k: v for k, v in values.items() if v is not None})
        tags = {SWEEP_RUN_TAG: str(len(finished))}
        if best is not None:
            tags["tinyllm.sweep.best_value"] = f"{best.value:.6g}"
            tags["tinyllm.sweep.best_trial"] = experiment_name(self.identity, best.index)
            point = trials.point(best)
            tags["tinyllm.sweep.best_settings"] = json.dumps(point)
        self.journal.tags(tags)

    def __enter__(self) -> "ParentRun":
        self.journal.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.journal.__exit__(kind, error, trace)


PARTS = ("vary", "set")  # of sweep.yaml that hold settings


def experiment_name(identity: str, index: int, seed: int | None = None) -> str:
    """Name of a trial's experiment in DVC; with several seeds, each has its own."""
    return f"{identity}-{index:03d}" + ("" if seed is None else f"-s{seed}")
