"""The records of a model: in MLflow, in its folder, in dvc.lock, and in Git."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.common.files import checksums, read_json
from tinyllm.evaluation.final_scores import SCORES
from tinyllm.experiments.model_address import read_revision
from tinyllm.experiments.model_facts import TRAINING, commit_of, recorded_digest
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.recorded import Recorded, of_weights
from tinyllm.experiments.repository import Git, GitError
from tinyllm.experiments.runs import Run, read_objects
from tinyllm.models.folder import WEIGHTS
from tinyllm.settings import strict_yaml

LOCK = "dvc.lock"


@dataclass(frozen=True)
class Sources:
    """The records of one model.

    Attributes:
        title: its name.
        facts: training.json of the model folder; empty if there is none.
        sums: SHA-256 of each file of the folder.
        lock: the content of dvc.lock; only the stages before training for a run.
        scores: "test" and "val": measure to value.
        runs: the runs in MLflow that trained it, the first of them described.
        experiments: names of DVC's experiments that made it.
        folder: where it is; None if only MLflow has it.
        commit: of the repository, if no run has one.
    """

    title: str
    facts: dict[str, Any]
    sums: dict[str, str]
    lock: dict[str, Any]
    scores: dict[str, dict[str, float]]
    runs: list[Recorded]
    experiments: list[str]
    folder: Path | None = None
    commit: str | None = None


def of_run(run: Recorded) -> Sources:
    """The records of a run in MLflow."""
    metrics = run.entry.data.metrics
    measures = {
        split: {name.partition("/")[2]: v for name, v in metrics.items() if name.startswith(prefix)}
        for split, prefix in (("test", "test/"), ("val", "best/"))
    }
    experiment = run.tags.get("dvc.experiment")
    return Sources(
        run.title, run.facts, run.checksums, run.lock, measures, [run],
        [experiment] if experiment else [],
    )  # fmt: skip


def of_folder(folder: Path, root: Path) -> Sources:
    """The records of a model folder, and of the runs that trained its weights.

    Raises:
        ValueError: the folder is corrupt, or MLflow does not answer.
    """
    there = folder.is_dir()
    sums = checksums(folder) if there else {}
    facts = read_json(folder / TRAINING) if TRAINING in sums else {}
    digest = recorded_digest(folder, root) if there else _digest_in(_read_lock(root), folder, root)
    lock = _read_lock(root) if digest else {}
    runs = of_weights(sums[WEIGHTS]) if WEIGHTS in sums else []
    return Sources(
        folder.name, facts, sums, lock, _scores_in(lock, root, facts), runs,
        experiments_with(digest, root) if digest else [], folder if there else None,
        commit_of(digest, root) if digest else None,
    )  # fmt: skip


def of_experiment(run: Run, root: Path) -> Sources:
    """The records of an experiment of DVC that MLflow has no run of."""
    assert run.revision is not None
    (content,) = read_objects(Git(root), [f"{run.revision}:{_here(root)}{LOCK}"])
    lock = strict_yaml.load((content or b"").decode()) or {}
    scores = {name: {"bits_per_byte": value} for name, value in
              (("test", run.test), ("val", run.validation)) if value is not None}  # fmt: skip
    facts, sums = {}, {}
    place = places_of("train", root)["model"]
    with tempfile.TemporaryDirectory(prefix="tinyllm-lineage-") as downloads:
        folder = Path(downloads, place.name)
        try:
            read_revision(root / place, run.revision, folder)
            sums, facts = checksums(folder), read_json(folder / TRAINING)
        except ValueError:  # listed as missing
            pass
    return Sources(run.name, facts, sums, lock, scores, [], [run.name], None, run.revision)


def _here(root: Path) -> str:
    return Git(root)("rev-parse", "--show-prefix").decode().strip()


def _read_lock(root: Path) -> dict[str, Any]:
    try:
        return dict(strict_yaml.load((root / LOCK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def out_of(lock: dict[str, Any], stage: str, path: str) -> dict[str, Any]:
    """The entry of a stage's output in a dvc.lock; empty if there is none."""
    outs = lock.get("stages", {}).get(stage, {}).get("outs", [])
    return next((out for out in outs if out["path"] == path), {})


def _digest_in(lock: dict[str, Any], folder: Path, root: Path) -> str | None:
    return out_of(lock, "train", folder.relative_to(root).as_posix()).get("md5")


def _scores_in(lock: dict[str, Any], root: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The scores of the model in a dvc.lock, if `evaluate` scored that very model."""
    found = {"val": facts["validation"]} if "validation" in facts else {}
    model, reports = places_of("train", root)["model"].as_posix(), places_of("evaluate", root)
    scored = lock.get("stages", {}).get("evaluate", {}).get("deps", [])
    digests = {dep["md5"] for dep in scored if dep["path"] == model}
    file = root / reports["reports"] / SCORES
    if digests == {out_of(lock, "train", model).get("md5")} and file.is_file():
        found["test"] = read_json(file)["test"]
    return found


def experiments_with(digest: str, root: Path) -> list[str]:
    """The names of DVC's experiments whose dvc.lock has a model's hash."""
    try:
        git, here = Git(root), _here(root)
        listed = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/").decode()
        refs = [
            (ref.split("/")[-1], revision)
            for ref, revision in (line.split() for line in listed.splitlines())
            if ref.count("/") == 4  # refs/exps/ab/cdef/name: no queued one
        ]
        locks = read_objects(git, [f"{revision}:{here}{LOCK}" for _, revision in refs])
    except GitError:
        return []
    named = zip(refs, locks, strict=True)
    return sorted(
        ref.split("/")[-1] for (ref, _), lock in named if digest.encode() in (lock or b"")
    )
