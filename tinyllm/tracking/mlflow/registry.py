"""Registers a logged model, and decides whether it becomes the champion.

The alias `champion` moves only to a model that is better than the present champion on the same test
data, by more than chance. Each version records the decision, so that it is made once.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyllm.common.files import sha256_of
from tinyllm.evaluation.paired import PairedDifference, paired_difference
from tinyllm.tracking.follower import NEWS
from tinyllm.tracking.journal import FILES
from tinyllm.tracking.model_record import LENGTHS, LOSSES, Candidate

ALIAS = "champion"
CHAMPION_TAG = "champion"  # the decision, and why
DATA_TAG, SCORED_TAG = "test_data", "scored_with"
BITS_TAG, LOSSES_TAG = "bits_per_byte", "losses_sha256"
VERSIONS_TAG = "mlflow.modelVersions"  # of a logged model
ABOUT = """\
The alias `champion` names the version that is best on the test split. It moves to a new version
only if that one is better by more than chance.
"""


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes the champion, and why."""

    champion: bool
    reason: str

    def __str__(self) -> str:
        return f"{'champion' if self.champion else 'not the champion'}: {self.reason}"


class Registry:
    """Registers the model of one journal.

    Args:
        client: an MlflowClient.
        folder: the journal's folder.
        say: prints what was decided.
    """

    def __init__(self, client: Any, folder: Path, say: Callable[[str], None]) -> None:
        self.client = client
        self.folder = folder
        self.say = say

    def register(self, model: Any, candidate: Candidate) -> None:
        """Make a logged model a version of the registered model, and decide on the champion."""
        version = self._find(model, candidate.name) or self._create(model, candidate)
        self._link(model, version)
        if CHAMPION_TAG in version.tags:
            return
        name, number = candidate.name, version.version
        decision = self._decide(version, candidate)
        if decision.champion:
            self.client.set_registered_model_alias(name, ALIAS, number)
        about = f"{candidate.bits_per_byte:.4f} bits per byte on the test split. {decision}."
        self.client.update_model_version(name, number, about)
        self.client.set_model_version_tag(name, number, CHAMPION_TAG, str(decision))
        self.say(f"{NEWS}{name} version {number}; {decision}")

    def _find(self, model: Any, name: str) -> Any | None:
        """The version that is this model; None if there is none."""
        found = self.client.search_model_versions(
            f"name = '{name}' and run_id = '{model.source_run_id}'"
        )
        return next((v for v in found if v.source == _source(model)), None)

    def _create(self, model: Any, candidate: Candidate) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(candidate.name, description=ABOUT)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self.client.create_model_version(
            candidate.name,
            _source(model),
            run_id=model.source_run_id,
            model_id=model.model_id,
            tags={
                LOSSES_TAG: sha256_of(self.folder / FILES / LOSSES),
                BITS_TAG: f"{candidate.bits_per_byte:.4f}",
                DATA_TAG: candidate.test_data,
                SCORED_TAG: candidate.scored_with,
            },
            await_creation_for=0,
        )

    def _link(self, model: Any, version: Any) -> None:
        """Show the version on the model's page, as `mlflow.register_model` does."""
        versions = json.loads(model.tags.get(VERSIONS_TAG, "[]"))
        link = {"name": version.name, "version": version.version}
        if link not in versions:
            links = json.dumps([*versions, link])
            self.client.set_logged_model_tags(model.model_id, {VERSIONS_TAG: links})

    def _decide(self, version: Any, candidate: Candidate) -> Decision:
        """Compare a version with the present champion."""
        registered = self.client.get_registered_model(candidate.name)
        number = registered.aliases.get(ALIAS)
        if number is None:
            return Decision(True, "there was none before")
        if str(number) == str(version.version):  # interrupted before the decision was recorded
            return Decision(True, "the alias names it already")
        champion = self.client.get_model_version(candidate.name, number)
        if champion.tags.get(DATA_TAG) != candidate.test_data:
            return Decision(False, f"version {number} was scored on other test data")
        if champion.tags.get(SCORED_TAG) != candidate.scored_with:
            return Decision(False, f"version {number} was scored with other settings of evaluate")
        try:
            return decide(self._difference(champion, candidate), number)
        except ValueError as error:
            return Decision(False, f"it can't be compared with version {number}: {error}")

    def _difference(self, champion: Any, candidate: Candidate) -> PairedDifference:
        """This model's bits per byte minus the champion's.

        Raises:
            ValueError: losses are missing or corrupt.
        """
        scale = candidate.test_tokens / log(2) / candidate.test_bytes  # from nats per token
        with tempfile.TemporaryDirectory() as folder:
            theirs = self._losses_of(champion, Path(folder))
            mine, lengths = (self.folder / FILES / name for name in (LOSSES, LENGTHS))
            return paired_difference(*map(_read, (mine, theirs, lengths))).times(scale)

    def _losses_of(self, version: Any, folder: Path) -> Path:
        """Download the losses of a version.

        Raises:
            ValueError: they are missing or corrupt.
        """
        listed = self.client.list_artifacts(version.run_id, str(Path(LOSSES).parent))
        if LOSSES not in {file.path for file in listed}:
            raise ValueError(f"its run has no file {LOSSES}")
        found = Path(self.client.download_artifacts(version.run_id, LOSSES, str(folder)))
        if sha256_of(found) != version.tags.get(LOSSES_TAG):
            raise ValueError(f"{LOSSES} of its run is not the file that was recorded")
        return found


def decide(difference: PairedDifference, number: str) -> Decision:
    """Whether a model becomes the champion.

    Args:
        difference: its bits per byte minus those of the champion.
        number: the champion's version.
    """
    amount = f"{abs(difference.mean):.4f} bits per byte"
    low, high = sorted(abs(end) for end in (difference.low, difference.high))
    interval = f"(95 % interval {low:.4f} to {high:.4f})"
    if difference.high < 0:
        return Decision(True, f"better than version {number} by {amount} {interval}")
    if difference.low > 0:
        return Decision(False, f"version {number} is better by {amount} {interval}")
    word = "better" if difference.mean < 0 else "worse"
    return Decision(
        False,
        f"{amount} {word} than version {number}, which may be chance (95 % interval of the "
        f"difference {difference.low:+.4f} to {difference.high:+.4f})",
    )


def _source(model: Any) -> str:
    return f"models:/{model.model_id}"


def _read(path: Path) -> npt.NDArray[Any]:
    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise ValueError(str(error)) from None
