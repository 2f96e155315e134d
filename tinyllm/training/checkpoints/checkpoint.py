"""Checkpoints on disk: whole or absent, verified, never pickled.

A folder for each fingerprint and hardware, and in it a folder a checkpoint:
    state.safetensors   every array
    facts.json          the rest, and what it was computed on
    manifest.json       the SHA-256 of both, written last
"""

import json
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save_file
from torch import Tensor

from tinyllm.common.files import (
    STATE_FOLDER,
    publish_folder,
    read_json,
    remove,
    sha256_of,
    write_json,
)
from tinyllm.common.fingerprint import Fingerprint
from tinyllm.compute import Compute
from tinyllm.tracking.locks import Lock
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.state import TrainState

ARRAYS, FACTS, MANIFEST = "state.safetensors", "facts.json", "manifest.json"
FINGERPRINT, LOCK = "fingerprint.json", "lock"
KEPT = 2  # checkpoints of a training
KEPT_TRAININGS = 4  # folders, the current one among them


class DamagedCheckpoint(ValueError):
    """A checkpoint that is not what was written."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint read back and verified."""

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    computes: list[dict[str, Any]]  # on which its steps were computed, one after the other


class Checkpoints:
    """The checkpoints of one training.

    Args:
        root: folder of all trainings' checkpoints.
        fingerprint: of this one.
        compute: what this process computes on.
        ranks: those that train together. They save together too, but only the first one writes.

    Raises:
        ValueError: nothing can be written there.
    """

    def __init__(
        self, root: Path, fingerprint: Fingerprint, compute: Compute, processes: Processes = ALONE
    ) -> None:
        self.root = root
        self.folder = folder_of(root, fingerprint, compute)
        self.computes = [asdict(compute)]  # recorded with each checkpoint
        self.processes = processes
        if processes.first:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(self.folder / FINGERPRINT, fingerprint.parts)
            except OSError as error:
                raise ValueError(
                    f"{STATE_FOLDER}: checkpoints, and records for MLflow, are kept in this "
                    f"folder, and {self.folder} can't be written: {error.strerror}. Make "
                    f"{root.parent} a folder that you can write to, on a disk with free space"
                ) from None
        self._writer: threading.Thread | None = None
        self._failure: Exception | None = None
        self._copies: dict[str, Tensor] = {}  # kept: new memory costs as much as copying does

    def go_on_from(self, loaded: Loaded) -> None:
        """Record from now on what its steps were computed on; remove newer ones, all damaged."""
        own = self.computes[-1]
        self.computes = loaded.computes + [own] * (loaded.computes[-1] != own)
        for path in self.paths():
            if path > loaded.path:  # it would count as one of those that are kept
                shutil.rmtree(path)

    def save(self, state: TrainState, *, wait: bool = False) -> None:
        """Write a checkpoint; training waits only while its arrays are copied, if not told to wait.

        Raises:
            OSError: this or the last one could not be written; those before are intact.
        """
        self.wait()
        copies = {}
        for name, tensor in state.tensors().items():
            tensor = self.processes.whole(tensor.detach())
            if not self.processes.first:
                continue
            copy = self._copies.get(name)
            if copy is None or copy.shape != tensor.shape:
                copy = torch.empty(tensor.shape, dtype=tensor.dtype)
            copies[name] = copy.copy_(tensor)
        if not self.processes.first:
            return
        self._copies = copies
        facts = {**state.facts(), "computes": self.computes}
        self._writer = threading.Thread(target=self._write, args=(state.step, copies, facts))
        self._writer.start()
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is on disk.

        Raises:
            OSError: it could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise OSError(f"a checkpoint could not be saved in {self.folder}: {failure}")

    def _write(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        try:
            path = self.folder / f"step-{step:09d}"
            with publish_folder(path) as new:
                save_file(tensors, new / ARRAYS)
                write_json(new / FACTS, facts)
                write_json(new / MANIFEST, {n: sha256_of(new / n) for n in (ARRAYS, FACTS)})
            verify(path)
            for old in self.paths()[:-KEPT]:
                shutil.rmtree(old)
        except Exception as error:  # handed to the training's own thread, which raises it
            self._failure = error

    def paths(self) -> list[Path]:
        """The checkpoints there are, the oldest first."""
        return sorted(self.folder.glob("step-*"))

    def newest(self) -> Loaded | None:
        """The newest checkpoint that is sound; None if there has been none yet.

        Raises:
            DamagedCheckpoint: there are some, and each is damaged.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return read(path)
            except DamagedCheckpoint as error:
                print(f"train: {error}; trying the one before", flush=True)
        if paths:
            raise DamagedCheckpoint(
                f"every checkpoint in {self.folder} is damaged; delete that folder to train anew"
            )
        return None

    def previous_trainings(self) -> list[Path]:
        """Folders of other trainings, the most recent last."""
        folders = [p.parent for p in self.root.glob(f"*/{FINGERPRINT}") if p.parent != self.folder]
        return sorted(folders, key=lambda folder: folder.stat().st_mtime)

    def prune(self) -> None:
        """Remove all but the latest trainings, and of this one what a kill left half-written.

        Only the process that holds this training's lock may. Trainings that run are left alone.
        """
        for half in self.folder.glob(".step-*.tmp"):
            remove(half)
        for folder in self.previous_trainings()[: -(KEPT_TRAININGS - 1)]:
            lock = training_lock(folder)
            if lock.acquire():
                shutil.rmtree(folder)
                lock.release()


def training_lock(folder: Path) -> Lock:
    """The lock of the process that trains in a folder."""
    return Lock(folder / LOCK, folder / f"{LOCK}.holder")


def folder_of(root: Path, fingerprint: Fingerprint, compute: Compute) -> Path:
    """Where a training is, or is to begin: on each hardware it is another, with other bits.

    Where it has not begun on this hardware, one that stopped on other hardware counts: its owner
    may wish to go on from it.
    """
    own = root / f"{fingerprint.name}-{compute.name}"
    others = [folder for folder in root.glob(f"{fingerprint.name}-*") if _waits(folder, compute)]
    if any(own.glob("step-*")) or not others:
        return own
    return max(others, key=lambda folder: folder.stat().st_mtime)


def _waits(folder: Path, compute: Compute) -> bool:
    """Whether a training has steps to go, or ended on this hardware wherever it began."""
    paths = sorted(folder.glob("step-*"))
    if not paths:
        return False
    try:
        facts: Any = read_json(paths[-1] / FACTS)
        return not facts["finished"] or facts["computes"][-1] == asdict(compute)
    except (OSError, ValueError, LookupError, TypeError):
        return True  # damaged, which is told when it is read


def verify(path: Path) -> None:
    """Compare a checkpoint's files with its manifest.

    Raises:
        DamagedCheckpoint: names the file.
    """
    try:
        manifest = read_json(path / MANIFEST)
        assert isinstance(manifest, dict)
        for name in (ARRAYS, FACTS):
            if sha256_of(path / name) != manifest.get(name):
                raise DamagedCheckpoint(f"{path / name} is damaged")
    except (ValueError, OSError, AssertionError) as error:
        if isinstance(error, DamagedCheckpoint):
            raise
        raise DamagedCheckpoint(f"checkpoint {path} is damaged: {error}") from None


def read(path: Path) -> Loaded:
    """Read a checkpoint, verified.

    Raises:
        DamagedCheckpoint: it is not what was written.
    """
    verify(path)
    facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
    computes = facts.pop("computes")
    return Loaded(path, load((path / ARRAYS).read_bytes()), facts, computes)
