"""Where a run comes from: commit, changes, experiment, data, and the command to make it again."""

import os
import re
import shlex
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyllm.settings import strict_yaml
from tinyllm.tokens.store import TokenSplit

PATCH = "changes.patch"
PARAMS = "params.yaml"
EXPERIMENT = "DVC_EXP_NAME"  # DVC sets this variable in the stages of an experiment
# Written by the pipeline itself while it runs, so that changes in them say nothing about the code.
_OUTPUTS = ("dvc.lock", "reports")


@dataclass(frozen=True)
class Provenance:
    """State of the repository and of DVC when a run began.

    Attributes:
        commit: Git's HEAD; None outside a repository.
        changed: tracked files that differ from it, the pipeline's own outputs left out.
        untracked: modules that Git does not know.
        patch: the difference in `changed`, for `git apply`, without params.yaml.
        settings: params.yaml's settings that differ from it.
        experiment: DVC experiment name, if there is one.
        base: revision that the experiment starts from.
    """

    commit: str | None
    changed: list[str]
    untracked: list[str]
    patch: bytes
    settings: dict[str, Any]
    experiment: str | None
    base: str | None

    @property
    def dirty(self) -> bool:
        """Whether the commit alone does not make the run."""
        return bool(self.changed or self.untracked)

    def tags(self) -> dict[str, str]:
        """As MLflow tags."""
        tags = {
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": self.commit,
            "git.dirty": str(self.dirty).lower() if self.commit else None,
            "dvc.experiment": self.experiment,
            "dvc.base_revision": self.base,
        }
        return {key: value for key, value in tags.items() if value is not None}

    def command(self) -> str:
        """Shell commands that make the run again."""
        lines = [f"git checkout {self.commit}"] if self.commit else []
        if self.patch:
            lines.append(f"git apply {PATCH}  # from the run's artifacts")
        changes = [f"-S {shlex.quote(f'{k}={hydra(v)}')}" for k, v in self.settings.items()]
        lines.append(" \\\n  ".join(["dvc exp run", *changes]) if changes else "dvc repro")
        return "\n".join(lines)

    def note(self, description: str) -> str:
        """A description in Markdown; the command first, for a page that shows its beginning."""
        lines = ["```sh", self.command(), "```", "", description]
        if self.untracked:
            names = ", ".join(f"`{name}`" for name in self.untracked)
            lines += ["", f"{names}: not in Git, but may have taken part."]
        return "\n".join(lines)


def provenance() -> Provenance:
    """Read the state of the repository that the current folder belongs to."""
    inputs = ["--", ".", *(f":(exclude){name}" for name in _OUTPUTS)]
    changed = _names("diff", "--name-only", "--relative", "-z", "HEAD", *inputs)
    code = [f":(exclude){PARAMS}"]
    return Provenance(
        commit=_git("rev-parse", "HEAD").decode().strip() or None,
        changed=changed,
        untracked=_names("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py"),
        patch=_git("diff", "--binary", "--no-color", "--no-ext-diff", "HEAD", *inputs, *code),
        settings=_changed_settings() if PARAMS in changed else {},
        experiment=os.environ.get(EXPERIMENT),
        base=os.environ.get("DVC_EXP_BASELINE_REV"),
    )


def dataset(name: str, split: TokenSplit, role: str) -> dict[str, Any]:
    """A split as a run's header names it; `role` is MLflow's word for what it is used for."""
    return {
        "name": name,
        "digest": split.summary.sha256[:32],  # MLflow takes 36 characters
        "source": str(split.path),
        "role": role,
        "profile": asdict(split.summary),
    }


def flatten(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


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
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # no interpolation
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)
    value = re.sub(r"(\\+)\Z", r"\1\1", value)
    return f"'{value}'"


def _changed_settings() -> dict[str, Any]:
    try:
        before = flatten(strict_yaml.load(_git("show", f"HEAD:./{PARAMS}").decode()))
        now = flatten(strict_yaml.load(Path(PARAMS).read_text(encoding="utf-8")))
    except (ValueError, AttributeError):  # the committed file was no params.yaml yet
        return {}
    return {key: value for key, value in now.items() if before.get(key, ...) != value}


def _names(*arguments: str) -> list[str]:
    """The file names that a git command prints with -z."""
    return [name.decode(errors="replace") for name in _git(*arguments).split(b"\0") if name]


def _git(*arguments: str) -> bytes:
    """What a git command prints; nothing where there is no repository or no git."""
    try:
        done = subprocess.run(
            # Without the lock: a command of the user's own at the same time would find it taken.
            ["git", "--no-optional-locks", *arguments],
            capture_output=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""
