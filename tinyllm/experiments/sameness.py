"""Whether a reproduction has the bytes of its run, and by how much its scores differ if not."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.common.files import checksums, read_json, sha256_of
from tinyllm.evaluation.final_scores import SCORES
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.recorded import Recorded
from tinyllm.model_card.facts import FACTS
from tinyllm.models.folder import WEIGHTS
from tinyllm.tracking.model_record import LOSSES

SHORT = 12  # digits shown of a hash
WHOLE_MODEL, WHOLE_LOSSES = "model folder", "test losses"  # names of rows


@dataclass(frozen=True)
class Row:
    """One thing that is compared: its value in the run, in the reproduction, and the verdict."""

    name: str
    then: str
    now: str
    same: bool
    verdict: str = ""

    def cells(self) -> tuple[str, str, str, str]:
        return self.name, self.then, self.now, self.verdict or ("same" if self.same else "differs")


def compare(run: Recorded, tree: Path) -> list[Row]:
    """Compare what the pipeline made in a work tree with what MLflow holds of a run.

    Raises:
        ValueError: a file of the tree is corrupt, or MLflow does not answer.
    """
    places = places_of("evaluate", tree)
    model = tree / places["model"]
    return [
        *_data(run, model),
        *_model(run, model),
        *_scores(run, tree / places["reports"]),
        *_losses(run, tree / places["losses"]),
    ]


def what_is_same(rows: list[Row]) -> str:
    """What has the same bytes, in words, if nothing differs."""
    names = [row.name for row in rows]
    if {WHOLE_MODEL, WHOLE_LOSSES} <= {*names}:
        return "every file of the model and every test loss has the same bytes"
    return f"{', '.join(names)}; MLflow has nothing else of the run to compare"


def _data(run: Recorded, model: Path) -> Iterator[Row]:
    then, now = run.facts.get("splits", {}), read_json(model / FACTS)["splits"]
    for split, held in now.items():
        if split in then:
            yield _hashes(f"{split} split", then[split]["sha256"], held["sha256"])


def _model(run: Recorded, model: Path) -> Iterator[Row]:
    assert run.weights is not None
    yield _hashes("weights", run.weights, sha256_of(model / WEIGHTS))
    then, now = run.checksums, checksums(model)
    if then:
        other = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        verdict = f"differs: {', '.join(other)}" if other else ""
        yield Row(WHOLE_MODEL, f"{len(then)} files", f"{len(now)} files", not other, verdict)


def _hashes(name: str, then: str, now: str) -> Row:
    return Row(name, then[:SHORT], now[:SHORT], then == now)


def _scores(run: Recorded, reports: Path) -> Iterator[Row]:
    scores: dict[str, Any] = read_json(reports / SCORES)["test"]
    for name in ("bits_per_byte", "loss", "accuracy"):
        then, now = run.entry.data.metrics.get(f"test/{name}"), scores[name]
        if then is not None:
            verdict = "" if then == now else f"differs by {now - then:+.2g}"
            yield Row(f"test {name}", f"{then:.6f}", f"{now:.6f}", then == now, verdict)


def _losses(run: Recorded, path: Path) -> Iterator[Row]:
    content = run.file(LOSSES)
    if content is None:
        return
    then = np.load(io.BytesIO(content), allow_pickle=False)
    now = np.load(path, allow_pickle=False)
    same = then.shape == now.shape and then.tobytes() == now.tobytes()
    verdict = ""
    if not same and then.shape == now.shape:
        apart = np.abs(now - then)
        verdict = f"{int((apart > 0).sum()):,} differ, by {apart.max():.2g} nats at most"
    yield Row(WHOLE_LOSSES, f"{len(then):,} tokens", f"{len(now):,} tokens", same, verdict)
