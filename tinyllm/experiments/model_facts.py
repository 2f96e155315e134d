"""What a model folder, dvc.lock and Git record about the origin of a model."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from tinyllm.common.files import checked, checksums, project_root, read_json
from tinyllm.experiments.outputs import Output
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.repository import Git, GitError
from tinyllm.export.facts import Facts
from tinyllm.settings import strict_yaml

LOCK = Path("dvc.lock")
TRAINING = "training.json"  # of a model folder: what `train` knew about it
CARD = "model_card.md"  # of evaluate's reports


def facts_of(folder: Path) -> Facts:
    """What is known about the model in a folder; nothing that may belong to another model.

    Raises:
        ValueError: a file of the folder is corrupt.
    """
    text = _text_of(folder)
    digest = recorded_digest(folder)
    commit = digest and commit_of(digest)
    return Facts(
        folder.resolve().name,
        training_data=text.get("source"),
        licence=text.get("licence"),
        commit=commit,
        repository=_repository() if commit else None,
        card=places_of("evaluate")["reports"] / CARD if digest else None,
    )


def _text_of(folder: Path) -> dict[str, str | None]:
    """Source and licence of the training text, if the folder has them."""
    if not (folder / TRAINING).exists():
        return {}
    return read_json(checked(folder, TRAINING, checksums(folder))).get("text") or {}


def recorded_digest(folder: Path, root: Path = Path()) -> str | None:
    """The hash of a model folder in dvc.lock, if that is the hash of these very files."""
    if not (root / LOCK).exists() or not folder.is_dir():
        return None
    train = strict_yaml.load((root / LOCK).read_text(encoding="utf-8"))["stages"].get("train", {})
    for out in train.get("outs", []):
        if (root / out["path"]).resolve() == folder.resolve():
            recorded: str = out["md5"]
            return recorded if _digest_of(folder, recorded) == recorded else None
    return None


def _digest_of(folder: Path, recorded: str) -> str | None:
    """A folder's hash, as DVC computes it."""
    output = Output(folder, recorded, size=0, cached=True, ignored=frozenset())
    found = {
        name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for name, path in output.files().items()
    }
    return output.digest_of(found)


def commit_of(digest: str, root: Path = Path()) -> str | None:
    """The first commit whose dvc.lock has a model's hash; None if it is not committed."""
    try:
        found = Git(root)("log", "-S", digest, "--format=%H", "--", str(LOCK))
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
