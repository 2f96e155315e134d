"""`tinyllm compare A B`: whether one run is better than another by more than chance, and where.

Two comparisons, of different questions. Over the tokens of the test split: are these two models
different, on other text of this kind? Over repeated seeds: are these two settings different, for
other initial weights and data orders? The second one needs at least two runs of each.
"""

import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyllm.common.files import project_root
from tinyllm.data.token_store import document_lengths, read_split
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.paired import PairedDifference, paired_difference
from tinyllm.experiments.model_address import read_revision
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.runs import Run
from tinyllm.tracking.mlflow.refusals import reason_of
from tinyllm.tracking.model_record import LENGTHS, LOSSES

SEED = "seed"
SHOWN = 3  # documents and tokens shown for each of the two runs
CONTEXT = 12  # tokens shown before a token
DIGEST = 32  # characters of a test split's SHA-256 that MLflow holds


@dataclass(frozen=True)
class Measured:
    """A run's loss of each test token.

    Attributes:
        losses: in nats (N,).
        lengths: tokens of each document (D,).
        bits_per_byte: of the run, by which nats per token are converted.
    """

    run: Run
    losses: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]

    @property
    def factor(self) -> float:
        """Bits per byte for each nat per token."""
        assert self.run.test is not None
        return self.run.test / float(self.losses.mean())


@dataclass(frozen=True)
class Seeds:
    """Test scores of runs that differ from one of the two only in the seed, and their difference.

    Attributes:
        first, second: bits per byte of each run.
        low, high: the 95 % interval of the difference of the means (Welch's).
    """

    first: list[float]
    second: list[float]
    low: float
    high: float

    @property
    def mean(self) -> float:
        """The difference of the means; negative if the first settings are better."""
        return statistics.mean(self.first) - statistics.mean(self.second)


def choose(runs: Sequence[Run], name: str) -> Run:
    """The latest run with this name in MLflow or DVC, or with this beginning of an id or commit.

    Raises:
        ValueError: there is none, or several runs' ids begin so.
    """
    named = [run for run in runs if name in (run.name, run.title)]
    if named:
        return max(named, key=lambda run: run.time)
    found = [
        run
        for run in runs
        if len(name) >= 4 and any((i or "").startswith(name) for i in (run.run_id, run.revision))
    ]
    if len(found) > 1:
        ids = ", ".join(run.run_id or run.revision or "" for run in found)
        raise ValueError(f"{name}: several runs begin so: {ids}")
    if not found:
        raise ValueError(f"{name}: no run has this name or id; `tinyllm compare` lists all runs")
    return found[0]


def measure(run: Run) -> Measured:
    """Read a run's losses, from MLflow or from DVC's cache or remote storage.

    Raises:
        ValueError: it has no scores, or the losses are nowhere.
    """
    if run.test is None:
        raise ValueError(f"{run.name} has no test score; its status is {run.status}")
    with tempfile.TemporaryDirectory(prefix="tinyllm-losses-") as folder:
        losses, lengths = _from_mlflow(run, Path(folder)) or _from_dvc(run, Path(folder))
    if losses.ndim != 1 or lengths.sum() != len(losses):
        raise ValueError(f"{run.name}: the losses of its test tokens are corrupt")
    return Measured(run, losses.astype(np.float64), lengths.astype(np.int64))


def _from_mlflow(run: Run, folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Losses and lengths that MLflow holds; None if it holds none."""
    if run.run_id is None:
        return None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    try:
        held = {file.path for file in client.list_artifacts(run.run_id, str(Path(LOSSES).parent))}
        if not {LOSSES, LENGTHS} <= held:
            return None
        losses, lengths = (
            np.load(client.download_artifacts(run.run_id, name, str(folder)), allow_pickle=False)
            for name in (LOSSES, LENGTHS)
        )
    except (MlflowException, OSError, ValueError) as error:
        raise ValueError(f"{run.name}: {reason_of(error)}") from None
    return losses, lengths


def _from_dvc(run: Run, folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Losses and lengths as DVC recorded them in the run's commit."""
    if run.revision is None:
        raise ValueError(
            f"{run.name}: MLflow has no losses of its test tokens, and DVC has no such experiment"
        )
    places = places_of("evaluate") | {"tokenizer": places_of("train")["tokenizer"]}
    for name in ("losses", "test", "tokenizer"):
        read_revision(places[name], run.revision, folder / name)
    test = read_split(folder / "test")
    lengths = document_lengths(test.tokens, Tokenizer.load(folder / "tokenizer").end_of_text)
    return np.load(folder / "losses", allow_pickle=False), lengths


def paired(first: Measured, second: Measured) -> PairedDifference:
    """The difference in bits per byte over the test tokens.

    Raises:
        ValueError: the runs have different test tokens.
    """
    ours, theirs = first.run.test_sha256, second.run.test_sha256
    same = first.lengths.tolist() == second.lengths.tolist()
    if not same or (ours and theirs and ours != theirs):
        raise ValueError(
            f"{first.run.name} and {second.run.name} were scored on different test tokens; only "
            "their bits per byte can be compared, and only if the text is the same"
        )
    found = paired_difference(first.losses, second.losses, first.lengths)
    return found.times(first.factor)


def over_seeds(runs: Sequence[Run], first: Run, second: Run) -> Seeds | None:
    """Compare all finished runs with the settings of two runs; None if one has no repeats."""
    ours, theirs = (_repeats(runs, run) for run in (first, second))
    if len(ours) < 2 or len(theirs) < 2 or _without_seed(first) == _without_seed(second):
        return None
    from scipy.stats import ttest_ind

    interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    return Seeds(ours, theirs, float(interval.low), float(interval.high))


def _repeats(runs: Sequence[Run], run: Run) -> list[float]:
    """The test scores of the runs with the same settings, one for each seed, the latest."""
    wanted = _without_seed(run)
    scores = {
        other.settings.get(SEED): other.test
        for other in sorted(runs, key=lambda other: other.time)
        if other.test is not None and other.settings and _without_seed(other) == wanted
    }
    return [score for score in scores.values() if score is not None]


def _without_seed(run: Run) -> dict[str, str]:
    return {
        name: value
        for name, value in run.settings.items()
        if name != SEED and not name.startswith("runtime.")
    }


# ----- where they differ


@dataclass(frozen=True)
class Place:
    """A document or token of the test split on which two models differ.

    Attributes:
        bits: the first model's loss minus the second's, in bits; of a document, per byte.
        before: text before the token; empty for a document.
        text: of the token, or the beginning of the document.
    """

    bits: float
    before: str
    text: str


@dataclass(frozen=True)
class Places:
    """Documents and tokens on which the models differ most, the first model's best ones first."""

    documents: list[Place]
    tokens: list[Place]


def find_places(first: Measured, second: Measured) -> Places | None:
    """Find where two models differ most; None if the test split in this folder is not theirs."""
    root = project_root()
    digest = first.run.test_sha256 or second.run.test_sha256
    try:
        test = read_split(root / places_of("evaluate")["test"])
        tokenizer = Tokenizer.load(root / places_of("train")["tokenizer"])
    except (ValueError, OSError):  # nothing has run here, or a file is missing
        return None
    known = digest is None or test.summary.sha256[:DIGEST] == digest
    if not known or len(test.tokens) != len(first.losses):
        return None
    difference = (first.losses - second.losses) / math.log(2)
    ends = np.cumsum(first.lengths)
    sizes = np.add.reduceat(tokenizer.token_bytes()[test.tokens], ends - first.lengths)
    of_document = np.add.reduceat(difference, ends - first.lengths) / np.maximum(sizes, 1)

    def text(begin: int, end: int) -> str:
        ids = test.tokens[begin:end]
        return tokenizer.decode_bytes(ids[ids != tokenizer.end_of_text].tolist()).decode(
            errors="replace"
        )

    documents = [
        Place(float(of_document[i]), "", text(int(ends[i] - first.lengths[i]), int(ends[i]))[:200])
        for i in extremes(of_document)
    ]
    tokens = [
        Place(float(difference[i]), text(max(0, i - CONTEXT), i), text(i, i + 1) or "<|endoftext|>")
        for i in extremes(difference)
    ]
    return Places(documents, tokens)


def extremes(values: npt.NDArray[np.float64]) -> list[int]:
    """Indices of the lowest values, lowest first, then of the highest ones, highest last."""
    count = min(SHOWN, len(values) // 2)
    order = np.argsort(values, kind="stable")
    return [int(i) for i in (*order[:count], *order[len(order) - count :])]
