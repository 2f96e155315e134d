"""Where a model comes from, and where it went: `tinyllm lineage`.

The facts come from what there is: a run in MLflow, or a model folder, its dvc.lock and Git. What
is recorded nowhere is listed as missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.common.files import project_root
from tinyllm.experiments.difference import choose
from tinyllm.experiments.inputs import inputs_in
from tinyllm.experiments.lineage_sources import (
    Sources,
    of_experiment,
    of_folder,
    of_run,
    out_of,
)
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.recorded import RUN_ID, Recorded, by_id
from tinyllm.experiments.repository import Git, GitError
from tinyllm.experiments.runs import project_runs
from tinyllm.models.folder import WEIGHTS
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import flatten

PARAMS = "params.yaml"
Facts = dict[str, Any]  # a value is None if it is unknown
UNDECIDING = ("runtime.", "evaluate.register_as")  # settings that decide no result
# What a complete lineage has, and why it may be missing.
WANTED = {
    ("corpus", "source"): "the model folder has no training.json",
    ("corpus", "licence"): "not stated: set download.licence",
    ("data", "md5"): "no dvc.lock of this training is recorded",
    ("tokenizer", "name"): "the model folder has no training.json",
    ("tokenizer", "md5"): "no dvc.lock of this training is recorded",
    ("splits", "train"): "the model folder has no training.json",
    ("splits", "test"): "the model folder has no training.json",
    ("settings", "seed"): "neither run nor dvc.lock has the settings",
    ("code", "commit"): "no run, and no commit of this repository has its dvc.lock",
    ("code", "dirty"): "MLflow has no run of this model, so changes of the code are unknown",
    ("environment", "processor"): "MLflow has no run that trained this model",
    ("environment", "threads"): "MLflow has no run that trained this model",
    ("environment", "torch"): "MLflow has no run that trained this model",
    ("environment", "packages"): "no run recorded the versions of the packages",
    ("weights", "sha256"): "the model folder is not here: `dvc pull` downloads it",
    ("weights", "parameters"): "the model folder has no training.json",
    ("scores", "test_bits_per_byte"): "the model was not evaluated, or its scores are elsewhere",
    ("places", "runs"): "MLflow has no run of this model: `tinyllm rebuild` makes one",
}


@dataclass
class Lineage:
    """The steps from the text to the model, in their order.

    Attributes:
        title: name of the model or run.
        corpus, data, tokenizer, splits, settings, code, environment, weights, scores: facts of
            each step by name.
        places: where the model is: runs, registered versions, experiments of DVC, folders.
    """

    title: str
    corpus: Facts = field(default_factory=dict)
    data: Facts = field(default_factory=dict)
    tokenizer: Facts = field(default_factory=dict)
    splits: Facts = field(default_factory=dict)
    settings: Facts = field(default_factory=dict)
    code: Facts = field(default_factory=dict)
    environment: Facts = field(default_factory=dict)
    weights: Facts = field(default_factory=dict)
    scores: Facts = field(default_factory=dict)
    places: Facts = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """What is not known, one line each."""
        return [
            f"{step}, {name}: {reason}"
            for (step, name), reason in WANTED.items()
            if getattr(self, step).get(name) in (None, [], {})
        ]


def lineage(target: str | None) -> Lineage:
    """The lineage of a run, a DVC experiment or a model folder; None for the project's model.

    Raises:
        ValueError: nothing has this name, or MLflow does not answer.
    """
    here, root = Path.cwd(), project_root()
    model = root / places_of("train", root)["model"]
    if target is None:
        return describe(of_folder(model, root), root)
    if (here / target).is_dir():
        return describe(of_folder((here / target).resolve(), root), root)
    runs = project_runs()
    if RUN_ID.fullmatch(target):
        return describe(of_run(by_id(target)), root)
    run = choose(runs, target)
    if run.run_id is None:
        return describe(of_experiment(run, root), root)
    return describe(of_run(by_id(run.run_id, run)), root)


# ----- describing them


def describe(sources: Sources, root: Path) -> Lineage:
    """Arrange the records of a model as the steps that made it."""
    run = sources.runs[0] if sources.runs else None
    commit = (run.commit if run else None) or sources.commit
    lock = (sources.lock or run.lock) if run else sources.lock
    committed = _committed(root, commit)
    facts = sources.facts or (run.facts if run else {})
    return Lineage(
        sources.title,
        corpus=_corpus(facts, lock),
        data=_made(lock, "download", places_of("download", root)["raw"]),
        tokenizer=_tokenizer(facts, lock, root),
        splits={name: dict(held) for name, held in facts.get("splits", {}).items()},
        settings=_settings(run, sources.lock, committed),
        code=_code(run, commit, root),
        environment=_environment(run),
        weights=_weights(run, facts, sources.sums),
        scores=_scores(sources, run),
        places=_places(sources, root),
    )


def _corpus(facts: dict[str, Any], lock: dict[str, Any]) -> Facts:
    text = facts.get("text") or {}
    files = {each.path: str(each) for each in inputs_in(lock) if not _is_ours(each.path)}
    return {"source": text.get("source"), "licence": text.get("licence")} | (
        {"files": files} if files else {}
    )


def _is_ours(path: str) -> bool:
    """Whether an input is no text: the versions of libraries, or the mark of random weights."""
    return path in ("requirements.lock", "scratch")


def _made(lock: dict[str, Any], stage: str, place: Path) -> Facts:
    out = out_of(lock, stage, place.as_posix())
    return {"path": place.as_posix(), "md5": out.get("md5"), "bytes": out.get("size")}


def _tokenizer(facts: dict[str, Any], lock: dict[str, Any], root: Path) -> Facts:
    made = _made(lock, "tokenize", places_of("tokenize", root)["tokenizer"])
    return {"name": facts.get("tokenizer"), "tokens": facts.get("vocab_size"), "md5": made["md5"]}


def _settings(run: Recorded | None, lock: dict[str, Any], committed: dict[str, Any]) -> Facts:
    """The seed, and the settings that differ from the commit's."""
    if run is not None:
        now = flatten(run.settings(committed) if committed or run.lock else {})
    else:
        now = {}
        for stage in lock.get("stages", {}).values():
            now |= flatten(stage.get("params", {}).get(PARAMS, {}))
    before = flatten(committed)
    changed = {
        name: f"{value} (in the commit: {before[name]})"
        for name, value in now.items()
        if name in before and before[name] != value and not name.startswith(UNDECIDING)
    }
    others = {"others": f"as in {PARAMS} of the commit"} if before and now else {}
    return {"seed": now.get("seed")} | changed | others


def _committed(root: Path, commit: str | None) -> dict[str, Any]:
    """The settings of a commit; empty if they can't be read."""
    try:
        return dict(
            strict_yaml.load(Git(root)("cat-file", "blob", f"{commit}:./{PARAMS}").decode())
        )
    except (GitError, ValueError, TypeError):
        return {}


def _code(run: Recorded | None, commit: str | None, root: Path) -> Facts:
    code: Facts = {"commit": commit, "dirty": run.tags.get("git.dirty") if run else None}
    try:
        shown = Git(root)("show", "--no-patch", "--format=%cs%n%s", commit or "HEAD").decode()
    except GitError:  # of another repository
        shown = ""
    if commit and shown:
        code |= dict(zip(("date", "subject"), shown.splitlines(), strict=False))
    if run and (changed := [*run.state.get("changed", []), *run.state.get("untracked", [])]):
        code["changed"] = changed
    if run and (inputs := [*run.state.get("inputs", {})]):
        code["not in Git"] = inputs
    return code


def _environment(run: Recorded | None) -> Facts:
    if run is None:
        return {}
    resolved, known = run.resolved, run.environment
    names = ("device", "threads", "precision", "instruction_set", "world_size", "compiled")
    return {
        "processor": resolved.get("device_name"),
        **{name: resolved.get(name) for name in names if resolved.get("torch_version")},
        "torch": resolved.get("torch_version"),
        "numpy": resolved.get("numpy_version"),
        "python": known.get("python"),
        "system": known.get("system"),
        "packages": known.get("packages"),
    }


def _weights(run: Recorded | None, facts: dict[str, Any], sums: dict[str, str]) -> Facts:
    weights: Facts = {"sha256": sums.get(WEIGHTS) or (run and run.weights)}
    weights["parameters"] = facts.get("parameters")
    weights["architecture"] = facts.get("settings", {}).get("architecture")
    weights["steps"] = facts.get("steps")
    prefix = "tinyllm.init_from_"
    based = {k.removeprefix(prefix): v for k, v in run.tags.items() if prefix in k} if run else {}
    return weights | ({"started from": based} if based else {})


def _scores(sources: Sources, run: Recorded | None) -> Facts:
    scores = sources.scores
    if run and "test" not in scores:
        scores = of_run(run).scores
    test, validation = scores.get("test", {}), scores.get("val", {})
    return {
        "validation_bits_per_byte": validation.get("bits_per_byte"),
        **{f"test_{name}": test.get(name) for name in ("bits_per_byte", "loss", "accuracy")},
    }


def _places(sources: Sources, root: Path) -> Facts:
    places: Facts = {"runs": [f"{run.run.name}, {run.run_id}" for run in sources.runs]}
    versions = [version for run in sources.runs for version in _versions(run.run_id)]
    experiments = {*sources.experiments, *(r.tags.get("dvc.experiment") for r in sources.runs)}
    named = sorted(name for name in experiments if name)
    if versions:
        places["registered"] = versions
    if named:
        places["DVC experiments"] = named
    if sources.folder:
        folder = sources.folder
        inside = folder.is_relative_to(root)
        places["folder"] = str(folder.relative_to(root) if inside else folder)
    return places


def _versions(run_id: str) -> Iterator[str]:
    """The versions of registered models that a run made."""
    from mlflow import MlflowClient

    for version in MlflowClient().search_model_versions(f"run_id = '{run_id}'"):
        aliases = "".join(f" @{alias}" for alias in version.aliases)
        yield f"{version.name} version {version.version}{aliases}"
