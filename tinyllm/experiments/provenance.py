"""The origin of a run: commit, changes, experiment, data, and the commands that reproduce it."""

import json
import os
import re
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tinyllm.common import source_files
from tinyllm.experiments import run_files
from tinyllm.experiments.command import EXPERIMENT
from tinyllm.experiments.inputs import describe, md5_of, places, pointer, read_inputs
from tinyllm.experiments.repository import (
    Git,
    GitError,
    has_repository,
    hidden_changes,
    read_changes,
)
from tinyllm.experiments.run_name import run_name
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import flatten
from tinyllm.tracking.origin import PATCH, Origin

PARAMS = "params.yaml"
EXPERIMENT_TAG = "dvc.experiment"
SWEEP_TAGS = "TINYLLM_SWEEP_TAGS"  # variable with tags of a sweep's trial, as a JSON object
LOCK = "dvc.lock"
# The pipeline writes these while it runs, so changes in them are not changes of the code.
_OUTPUTS = (LOCK, "reports")
_PIPELINE = (PARAMS, "dvc.yaml")


@dataclass(frozen=True)
class Provenance:
    """State of the repository and of DVC when a run began.

    Attributes:
        commit: Git's HEAD; None outside a repository, or if Git fails.
        changed: tracked files that differ from the commit, excluding the pipeline's outputs.
        untracked: modules that are not in Git.
        patch: the difference in `changed` and `untracked`, for `git apply`; excludes params.yaml
            if `settings` cover all of its changes.
        settings: settings in params.yaml that differ from the commit's.
        experiment: DVC experiment name, if there is one.
        base: revision that the experiment starts from.
        inputs: other files and folders that a stage may have read and that are in neither commit
            nor patch, with a description of each.
        pulled: files and folders that DVC tracks, with the .dvc file in the commit of each.
        hashes: MD5 of those of `inputs` that dvc.lock lists.
        submodules: whether submodules are checked out.
        unknown: Git's error, if it can't compare the files; None if it can.
        sweep: tags that tie a sweep's trial to its sweep.
    """

    commit: str | None = None
    changed: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    patch: bytes = b""
    settings: dict[str, Any] = field(default_factory=dict)
    experiment: str | None = None
    base: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    pulled: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    submodules: bool = False
    unknown: str | None = None
    sweep: dict[str, str] = field(default_factory=dict)

    @property
    def dirty(self) -> bool | None:
        """Whether the run needs more than the commit; None if unknown."""
        return None if self.unknown else bool(self.changed or self.untracked or self.inputs)

    def tags(self) -> dict[str, str]:
        """The origin as MLflow tags."""
        dirty = "unknown" if self.unknown else str(self.dirty).lower()
        tags = {  # MLflow's page of a run shows them in this order
            EXPERIMENT_TAG: self.experiment,
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": self.commit,
            "git.dirty": dirty if self.commit or self.unknown else None,
            "dvc.base_revision": self.base,
            **self.sweep,
        }
        return {key: value for key, value in tags.items() if value is not None}

    def command(self) -> str:
        """Shell commands that reproduce the run."""
        lines = [f"git checkout {self.commit}"] if self.commit else []
        if self.submodules:
            lines.append("git submodule update --init --recursive")
        if self.patch:  # unchanged, even if Git is configured to fix white space
            lines.append(f"git apply --whitespace=nowarn {PATCH}  # from the run's artifacts")
        if pointers := sorted(set(self.pulled.values())):
            lines.append(shlex.join(["dvc", "pull", *pointers]))
        changes = [f"-S {shlex.quote(f'{k}={hydra(v)}')}" for k, v in self.settings.items()]
        lines.append(" \\\n  ".join(["dvc exp run", *changes]) if changes else "dvc repro")
        return "\n".join(lines)

    def remarks(self) -> list[str]:
        """Markdown on what the commands need or can't restore."""
        if self.unknown:
            return [f"The code of this run is unknown. Git: {self.unknown}"]
        remarks = []
        if self.untracked:
            remarks.append(f"{_listed(self.untracked)}: not in Git; {PATCH} has them.")
        if self.inputs:
            known = [f"`{name}`{about and f' ({about})'}" for name, about in self.inputs.items()]
            remarks.append(f"{_some(known)}: neither in Git nor in {PATCH}; copy it there.")
        if self.pulled:
            needs = "`dvc pull` needs the DVC remote or cache that has it"
            remarks.append(f"{_listed([*self.pulled])}: not in Git, but tracked by DVC; {needs}.")
        return remarks

    def files(self) -> dict[str, bytes]:
        """What `tinyllm reproduce` needs besides commit and patch, by the name in the run."""
        state = {
            "changed": self.changed,
            "untracked": self.untracked,
            "inputs": {name: self.hashes.get(name) for name in self.inputs},
            "pulled": self.pulled,
            "patch": bool(self.patch),
            "submodules": self.submodules,
        }
        return run_files.files_of(Path.cwd(), state)

    def name(self) -> str | None:
        """A run's name that shows what is special about it; None if Git does not know that."""
        if self.unknown or not self.commit:
            return self.experiment
        settings = {name: hydra(value) for name, value in self.settings.items()}
        code = bool({*self.changed} - {PARAMS} or self.untracked)
        return run_name(settings, code, f"{PARAMS} at {self.commit[:7]}", self.experiment)

    def as_origin(self) -> Origin:
        """What the record of a run shows of this state."""
        return Origin(
            name=self.name(),
            tags=self.tags(),
            commands="" if self.unknown else self.command(),
            remarks=tuple(self.remarks()),
            patch=self.patch,
            files=self.files(),
            twin_tag=EXPERIMENT_TAG,
        )


def read_origin() -> Origin:
    """Read the origin of the run that this process begins; see `provenance`."""
    return provenance().as_origin()


def provenance() -> Provenance:
    """Read the state of the repository that the current folder belongs to.

    If Git fails, prints its error and records `git.dirty` as unknown.
    """
    here = Path.cwd()
    origin = Provenance(
        experiment=os.environ.get(EXPERIMENT),
        base=os.environ.get("DVC_EXP_BASELINE_REV"),
        sweep=json.loads(os.environ.get(SWEEP_TAGS, "{}")),
    )
    if not has_repository(here):
        return origin
    try:
        # Git's own error for a repository without commits is "Needed a single revision".
        named = Git(here)("rev-parse", "--verify", "--quiet", "HEAD", statuses=(0, 1))
        if not named:
            raise GitError("no commit yet")
        commit = named.decode().strip()
        origin = replace(origin, commit=commit)
        settings = _changed_settings(here)
        read = places(here, commit, read_inputs(here / LOCK))
        found = read_changes(
            here,
            revision=commit,
            exclude=_OUTPUTS,
            unpatched=[] if settings is None else [PARAMS],
            also=_modules(),
            read=read,
            into_patch=_is_code,
        )
        patched = [name for name in found.untracked if _is_code(name)]
        hidden = set(hidden_changes(here, revision=commit, wanted=_is_code)) - {*found.changed}
        missing = sorted((hidden | {*found.missing}) - {*patched})
        pointers = {name: pointer(here, commit, name, read) for name in missing}
    except (GitError, OSError) as error:  # OSError: no room for an index, no access
        print(f"git.dirty is recorded as unknown for this run. Git: {error}", file=sys.stderr)
        return replace(origin, unknown=str(error))
    return replace(
        origin,
        changed=[_text(name) for name in found.changed],
        untracked=[_text(name) for name in patched],
        inputs={_text(name): describe(name, read) for name in missing if pointers[name] is None},
        pulled={_text(name): file for name, file in pointers.items() if file is not None},
        hashes={_text(name): md5 for name in missing if (md5 := md5_of(name, read))},
        patch=found.patch,
        settings=settings or {},
        submodules=found.submodules,
    )


def _modules() -> list[str]:
    """The project's modules, including those that Git is configured to ignore."""
    return [
        path.as_posix() for package in source_files.PACKAGES for path in Path(package).rglob("*.py")
    ]


def _is_code(name: str) -> bool:
    """Whether an untracked file may decide what a stage does."""
    path = PurePosixPath(name)
    if "site-packages" in path.parts:  # of a virtual environment in the project
        return False
    return path.suffix == ".py" or path.parts[0] in source_files.PACKAGES or name in _PIPELINE


def _text(name: str) -> str:
    """A file name as text, even if it is not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _listed(names: list[str]) -> str:
    return _some([f"`{name}`" for name in names])


def _some(items: list[str]) -> str:
    more = f" and {len(items) - 20} more" if len(items) > 20 else ""
    return ", ".join(items[:20]) + more


def hydra(value: Any) -> str:
    """A value as `dvc exp run -S` reads it, in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(hydra, value))}]"
    if not isinstance(value, str):
        return repr(value)
    words = ("null", "true", "false", "nan", "inf")
    if re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII) and value.lower() not in words:
        return value
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # prevents interpolation
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)
    value = re.sub(r"(\\+)\Z", r"\1\1", value)
    return f"'{value}'"


def _changed_settings(here: Path) -> dict[str, Any] | None:
    """The settings that differ from the commit's; None if they don't cover every difference."""
    try:
        committed = Git(here)("cat-file", "blob", f"HEAD:./{PARAMS}").decode()
        before = flatten(strict_yaml.load(committed))
        now = flatten(strict_yaml.load((here / PARAMS).read_text(encoding="utf-8")))
    except (GitError, OSError, ValueError, AttributeError):  # an invalid params.yaml
        return None
    if before.keys() - now.keys():
        return None
    # Compared as text: 1 and 1.0 are equal in Python.
    return {k: v for k, v in now.items() if k not in before or repr(before[k]) != repr(v)}
