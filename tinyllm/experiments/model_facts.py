"""What dvc.lock and Git record about the model that the pipeline trained."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tinyllm.common.files import project_root
from tinyllm.data.readers.raw_folder import Manifest, read_manifest
from tinyllm.experiments.outputs import Output
from tinyllm.experiments.pipeline import places_of
from tinyllm.export.facts import Facts
from tinyllm.settings import strict_yaml
from tinyllm.tracking.repository import Git, GitError

LOCK = Path("dvc.lock")
Lock = dict[str, dict[str, Any]]


def facts_of(folder: Path) -> Facts:
    """What is known about the model in a folder.

    Only what certainly belongs to it: dvc.lock has the hash of exactly this folder, and the hashes
    of what it was made from.
    """
    name = folder.resolve().name
    lock: Lock = (
        strict_yaml.load(LOCK.read_text(encoding="utf-8"))["stages"] if LOCK.exists() else {}
    )
    digest = _output(lock, "train", folder)
    if digest is None or _digest_of(folder, digest) != digest:
        return Facts(name)
    raw = places_of("download")["raw"]
    text = _manifest(raw) if _made_from_current_inputs(lock, "train") else None
    return Facts(
        name,
        training_data=text and text.source,
        licence=text and text.licence,
        commit=_commit_of(digest),
        repository=_repository(),
    )


def _output(lock: Lock, stage: str, path: Path) -> str | None:
    """The recorded hash of an output, for the folder that the pipeline writes."""
    for out in lock.get(stage, {}).get("outs", []):
        if Path(out["path"]).resolve() == path.resolve():
            return str(out["md5"])
    return None


def _digest_of(folder: Path, recorded: str) -> str | None:
    """A folder's hash, as DVC computes it."""
    output = Output(folder, recorded, size=0, cached=True, ignored=frozenset())
    found = {
        name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for name, path in output.files().items()
    }
    return output.digest_of(found)


def _made_from_current_inputs(lock: Lock, stage: str) -> bool:
    """Whether a stage, and those before it, read what the stages before them wrote last."""
    made = {out["path"]: (name, out["md5"]) for name in lock for out in lock[name]["outs"]}
    for dependency in lock[stage].get("deps", []):
        if dependency["path"] in made:
            maker, digest = made[dependency["path"]]
            if dependency.get("md5") != digest or not _made_from_current_inputs(lock, maker):
                return False
    return True


def _manifest(raw: Path) -> Manifest | None:
    """The description of the corpus; None if it is not here, or corrupt."""
    try:
        return read_manifest(raw)
    except ValueError:
        return None


def _commit_of(digest: str) -> str | None:
    """The first commit whose dvc.lock has a model's hash; None if it is not committed."""
    try:
        found = Git(Path.cwd())("log", "-S", digest, "--format=%H", "--", str(LOCK))
    except GitError:
        return None
    commits = found.decode().split()
    return commits[-1] if commits else None


def _repository() -> str | None:
    """The address of the repository that others can reach, without user and password."""
    try:
        address = Git(project_root())("remote", "get-url", "origin").decode().strip()
    except GitError:  # without a remote
        return None
    parts = urlsplit(address)
    if parts.scheme != "https" or parts.hostname is None:
        return None
    port = f":{parts.port}" if parts.port else ""
    return f"https://{parts.hostname}{port}{parts.path}"
