"""Checkpoints on disk: complete or absent, verified, never pickled.

Each fingerprint and hardware has a folder, which contains one folder per checkpoint:
    state.safetensors   every array
    facts.json          the rest of the state, and the hardware it was computed on
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
KEPT = 2  # checkpoints per training
KEPT_TRAININGS = 4  # folders, including the current one


class CorruptCheckpoint(ValueError):
    """A checkpoint whose content differs from what was written."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint read back and verified."""

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    computes: list[dict[str, Any]]  # the hardware of its steps, in order


class Checkpoints:
    """The checkpoints of one training.

    Args:
        root: folder of all trainings' checkpoints.
        fingerprint: this training's fingerprint.
        compute: the hardware and precision of this process.
        processes: the processes that train together. All call `save`; only the first one writes.

    Raises:
        ValueError: the folder can't be written.
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
                    f"{STATE_FOLDER} (checkpoints and records for MLflow): can't write "
                    f"{self.folder}: {error.strerror}. Make {root.parent} a folder that you can "
                    "write to, on a disk with free space"
                ) from None
        self._writer: threading.Thread | None = None
        self._failure: Exception | None = None
        self._copies: dict[str, Tensor] = {}  # reused: new memory costs as much as copying

    def resume_from(self, loaded: Loaded) -> None:
        """Carry over the checkpoint's hardware history; remove newer ones, all corrupt."""
        own = self.computes[-1]
        self.computes = loaded.computes + [own] * (loaded.computes[-1] != own)
        for path in self.paths():
            if path > loaded.path:  # it would count as one of the KEPT
                shutil.rmtree(path)

    def save(self, state: TrainState, *, wait: bool = False) -> None:
        """Write a checkpoint; unless `wait` is set, training waits only while arrays are copied.

        Raises:
            OSError: this or the previous checkpoint could not be written; older ones are intact.
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
        """Wait until the current checkpoint is on disk.

        Raises:
            OSError: the checkpoint could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise OSError(f"can't save a checkpoint in {self.folder}: {failure}")

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
        except Exception as error:  # raised by the training thread
            self._failure = error

    def paths(self) -> list[Path]:
        """The existing checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def newest(self) -> Loaded | None:
        """The newest intact checkpoint; None if none exists.

        Raises:
            CorruptCheckpoint: every existing checkpoint is corrupt.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return read(path)
            except CorruptCheckpoint as error:
                print(f"train: {error}; trying the previous checkpoint", flush=True)
        if paths:
            raise CorruptCheckpoint(
                f"every checkpoint in {self.folder} is corrupt; delete that folder to train from "
                "scratch"
            )
        return None

    def previous_trainings(self) -> list[Path]:
        """Folders of other trainings, most recent last."""
        folders = [p.parent for p in self.root.glob(f"*/{FINGERPRINT}") if p.parent != self.folder]
        return sorted(folders, key=lambda folder: folder.stat().st_mtime)

    def prune(self) -> None:
        """Remove all but the latest trainings, and this training's unfinished files.

        Call it only while holding this training's lock. Running trainings are kept.
        """
        for half in self.folder.glob(".step-*.tmp"):
            remove(half)
        for folder in self.previous_trainings()[: -(KEPT_TRAININGS - 1)]:
            lock = training_lock(folder)
            if lock.acquire():
                shutil.rmtree(folder)
                lock.release()


def training_lock(folder: Path) -> Lock:
    """The lock that the process training in a folder holds."""
    return Lock(folder / LOCK, folder / f"{LOCK}.holder")


def folder_of(root: Path, fingerprint: Fingerprint, compute: Compute) -> Path:
    """The folder of a training on this hardware; other hardware gives other bits.

    If the training has not started on this hardware but was interrupted on other hardware, returns
    that folder: `hardware.resume: any` resumes from it.
    """
    own = root / f"{fingerprint.name}-{compute.name}"
    others = [folder for folder in root.glob(f"{fingerprint.name}-*") if _waits(folder, compute)]
    if any(own.glob("step-*")) or not others:
        return own
    return max(others, key=lambda folder: folder.stat().st_mtime)


def _waits(folder: Path, compute: Compute) -> bool:
    """Whether a training is unfinished, or finished on this hardware."""
    paths = sorted(folder.glob("step-*"))
    if not paths:
        return False
    try:
        facts: Any = read_json(paths[-1] / FACTS)
        return not facts["finished"] or facts["computes"][-1] == asdict(compute)
    except (OSError, ValueError, LookupError, TypeError):
        return True  # corrupt, which is reported when it is read


def verify(path: Path) -> None:
    """Compare a checkpoint's files with its manifest.

    Raises:
        CorruptCheckpoint: a file differs; the message names it.
    """
    try:
        manifest = read_json(path / MANIFEST)
        assert isinstance(manifest, dict)
        for name in (ARRAYS, FACTS):
            if sha256_of(path / name) != manifest.get(name):
                raise CorruptCheckpoint(f"{path / name} is corrupt")
    except (ValueError, OSError, AssertionError) as error:
        if isinstance(error, CorruptCheckpoint):
            raise
        raise CorruptCheckpoint(f"checkpoint {path} is corrupt: {error}") from None


def read(path: Path) -> Loaded:
    """Read and verify a checkpoint.

    Raises:
        CorruptCheckpoint: its content differs from what was written.
    """
    verify(path)
    facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
    computes = facts.pop("computes")
    return Loaded(path, load((path / ARRAYS).read_bytes()), facts, computes)
