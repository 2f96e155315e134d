"""What decides a training's result: settings, data and code, each by its hash.

Checkpoints lie in a folder named after it, so that a training only ever goes on from its own.
"""

import hashlib
import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from tinyllm.common import source_files
from tinyllm.common.files import CHECKSUMS, sha256_of
from tinyllm.model.runtime import Compute
from tinyllm.settings.load import Params
from tinyllm.training.ranks import Ranks


@dataclass(frozen=True)
class Fingerprint:
    """Each part by name: "train.n_layer" to its value, ".../tokens.npy" to its hash.

    The hardware is not among them: a checkpoint records what it was made on by itself.
    """

    parts: dict[str, str]

    @property
    def name(self) -> str:
        """A short name, the same for the same parts."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: "Fingerprint") -> list[str]:
        """The parts in which two fingerprints differ, for people: a sealed folder as one."""
        names = sorted(self.parts.keys() | other.parts.keys())
        different = [name for name in names if self.parts.get(name) != other.parts.get(name)]
        sealed = {name.removesuffix(CHECKSUMS) for name in different if name.endswith(CHECKSUMS)}
        folders = (name[: name.rfind("/") + 1] for name in different)
        shown = zip(different, folders, strict=True)
        return list(dict.fromkeys(folder if folder in sealed else name for name, folder in shown))


def take(params: Params, module: str, inputs: list[Path]) -> Fingerprint:
    """The fingerprint as of now.

    Args:
        module: the stage, like "stages.train"; its code is that of all it imports.
        inputs: files, or folders with all their files.
    """
    parts = {"seed": str(params.seed)}
    for name, value in params.train.resolve().model_dump().items():
        parts[f"train.{name}"] = repr(value)
    for path in inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                parts[file.as_posix()] = sha256_of(file)
    for file in source_files.files_of(module):
        parts[file.as_posix()] = sha256_of(source_files.ROOT / file)
    return Fingerprint(parts)


def check_same(own: Fingerprint, compute: Compute, ranks: Ranks) -> None:
    """Refuse to train together what differs from machine to machine; for each rank to call.

    Raises:
        ValueError: names a rank, its machine, and in what it differs from the first; on all ranks.
    """
    hardware = {f"hardware.{name}": str(value) for name, value in asdict(compute).items()}
    told = ranks.gather_text(json.dumps([socket.gethostname(), own.parts | hardware]))
    host, first = json.loads(told[0])
    for rank, text in enumerate(told):
        other_host, parts = json.loads(text)
        differences = Fingerprint(first).differences(Fingerprint(parts))
        if differences:
            raise ValueError(
                f"not the same on every machine: {', '.join(differences)}: rank {rank} (on "
                f"{other_host}) differs from rank 0 (on {host}). Code, data, settings, hardware "
                "and libraries must be the same"
            )


def check_unchanged(before: Fingerprint, after: Fingerprint) -> None:
    """Refuse a result whose inputs changed while it was made.

    DVC hashes a stage's inputs after its command, so it would record what was not used
    (https://github.com/iterative/dvc/issues/11058).

    Raises:
        ValueError: names what changed.
    """
    changed = before.differences(after)
    if changed:
        raise ValueError(
            f"changed while training ran: {', '.join(changed)}; the result belongs to "
            "neither state. Run `dvc repro` again"
        )
