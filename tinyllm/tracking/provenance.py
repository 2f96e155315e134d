"""Where a run comes from: commit, changes, DVC experiment, and the command that makes it again."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm import strict_yaml

# Written by the pipeline itself while it runs, so that changes in them say nothing about the code.
_OUTPUTS = ("dvc.lock", "reports/")


@dataclass(frozen=True)
class Provenance:
    """State of the repository and of DVC when a run began.

    Attributes:
        commit: Git's HEAD; None outside a repository.
        changed: tracked files that differ from it, the pipeline's own outputs left out.
        settings: params.yaml's settings that differ from it.
        experiment: DVC experiment name, if there is one.
        base: revision that the experiment starts from.
    """

    commit: str | None
    changed: list[str]
    settings: dict[str, Any]
    experiment: str | None
    base: str | None

    def tags(self) -> dict[str, str]:
        """As MLflow tags."""
        tags = {
            "mlflow.source.git.commit": self.commit,
            "git.commit": self.commit,
            "git.dirty": str(bool(self.changed)).lower() if self.commit else None,
            "git.changed": ", ".join(self.changed) or None,
            "dvc.experiment": self.experiment,
            "dvc.base_revision": self.base,
        }
        return {key: value for key, value in tags.items() if value is not None}

    def command(self) -> str:
        """Shell commands that make the run again."""
        checkout = f"git checkout {self.commit}\n" if self.commit else ""
        changes = "".join(f" \\\n  -S '{key}={_plain(v)}'" for key, v in self.settings.items())
        return checkout + (f"dvc exp run{changes}" if changes else "dvc repro")

    def note(self, title: str) -> str:
        """A description in Markdown."""
        lines = [f"**{title}**", "", "Make it again:", "", "```sh", self.command(), "```"]
        others = [name for name in self.changed if name != "params.yaml"]
        if others:
            names = ", ".join(f"`{name}`" for name in others)
            lines += ["", f"Uncommitted changes in {names} took part."]
        return "\n".join(lines)


def provenance() -> Provenance:
    """Read the state of the repository that the current folder belongs to."""
    changed = [
        name
        for name in _git("diff", "--name-only", "--relative", "HEAD").splitlines()
        if not name.startswith(_OUTPUTS)
    ]
    return Provenance(
        commit=_git("rev-parse", "HEAD").strip() or None,
        changed=changed,
        settings=_changed_settings() if "params.yaml" in changed else {},
        experiment=os.environ.get("DVC_EXP_NAME"),
        base=os.environ.get("DVC_EXP_BASELINE_REV"),
    )


def flatten(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _changed_settings() -> dict[str, Any]:
    try:
        before = flatten(strict_yaml.load(_git("show", "HEAD:./params.yaml")))
        now = flatten(strict_yaml.load(Path("params.yaml").read_text(encoding="utf-8")))
    except (ValueError, AttributeError):  # the committed file was no params.yaml yet
        return {}
    return {key: value for key, value in now.items() if before.get(key, ...) != value}


def _git(*arguments: str) -> str:
    """What a git command prints; nothing where there is no repository or no git."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _plain(value: Any) -> str:
    """A value as `dvc exp run -S` reads it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, list) else str(value)
