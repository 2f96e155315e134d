"""Resuming a training from its last checkpoint, and saving it; one process per folder."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

from tinyllm.common.errors import Interrupted
from tinyllm.common.files import read_json
from tinyllm.common.fingerprint import Fingerprint
from tinyllm.compute import Compute
from tinyllm.settings.load import Params
from tinyllm.tracking.folders import trainings_folder
from tinyllm.training.checkpoints.checkpoint import FINGERPRINT, Checkpoints, Loaded, training_lock
from tinyllm.training.checkpoints.interruption import REASONS, Interruption
from tinyllm.training.distributed.processes import ALONE, Processes
from tinyllm.training.state import TrainState

BOOKMARK = "journal"  # file with the name of this training's journal
LOCK_PATIENCE = 10.0  # seconds in which a training stops after its starter was killed


class Resumable:
    """Saves a training at intervals, and when it is asked to stop."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        interruption: Interruption,
        params: Params,
        processes: Processes,
    ) -> None:  # fmt: skip
        self.checkpoints = checkpoints
        self.processes = processes
        self.bookmark = checkpoints.folder / BOOKMARK
        self.interruption = interruption
        self.settings = params.runtime
        self.max_steps = params.train.max_steps
        self._saved = time.monotonic()

    def between_steps(self, state: TrainState) -> None:
        """Save if a checkpoint is due by the first rank's clock; stop if any rank was asked to.

        Raises:
            Interrupted: a stop was requested; the state is saved.
            OSError: the state could not be saved.
        """
        gathered = self.processes.gather(self.interruption.number, self._is_time(state.step))
        if number := max(int(number) for number, _ in gathered):
            self.checkpoints.save(state, wait=True)
            raise Interrupted(
                f"stopped by {REASONS[signal.Signals(number)]} at step {state.step} of "
                f"{self.max_steps}, saved"
            )
        if gathered[0][1]:
            self._saved = time.monotonic()
            self.checkpoints.save(state)

    def _is_time(self, step: int) -> bool:
        """Whether a checkpoint is due."""
        steps, minutes = self.settings.checkpoint_steps, self.settings.checkpoint_minutes
        return (steps is not None and step % steps == 0) or (
            minutes is not None and time.monotonic() - self._saved >= 60 * minutes
        )


@contextmanager
def resumable(
    state: TrainState, fingerprint: Fingerprint, compute: Compute, params: Params,
    processes: Processes = ALONE,
) -> Iterator[Resumable]:  # fmt: skip
    """Restore the last checkpoint into a fresh state, if there is one, and save it from now on.

    Raises:
        ValueError: another process runs the same training; all checkpoints are corrupt; or the
            last one was made on other hardware and params.yaml requires exact bits.
    """
    checkpoints = Checkpoints(trainings_folder(), fingerprint, compute, processes)
    alone = _locked(checkpoints.folder) if processes.first else nullcontext()
    with alone, Interruption() as interruption:
        loaded = _newest(checkpoints, fingerprint, compute, params) if processes.first else None
        facts, tensors = processes.from_first(
            None if loaded is None else loaded.facts, {} if loaded is None else loaded.tensors
        )
        if facts is not None:
            state.restore(tensors, facts, processes)
        try:
            yield Resumable(checkpoints, interruption, params, processes)
        except BaseException:
            checkpoints.wait()
            raise
        try:
            checkpoints.save(state, wait=True)
        except OSError as error:  # the results are already published
            print(f"train: {error}; the model and its reports are complete", file=sys.stderr)


def _newest(
    checkpoints: Checkpoints, fingerprint: Fingerprint, compute: Compute, params: Params
) -> Loaded | None:
    """The checkpoint to resume from, or None; prints the step, or why there is none."""
    checkpoints.prune()
    loaded = checkpoints.newest()
    if loaded is None:
        _say_what_changed(checkpoints, fingerprint)
        return None
    _check_hardware(loaded, compute, params)
    checkpoints.resume_from(loaded)
    if loaded.facts["finished"]:
        print(
            "train: already trained to the end; writing its results again "
            f"(delete {checkpoints.folder} to train from scratch)"
        )
    else:
        print(f"train: resuming at step {loaded.facts['step']} of {params.train.max_steps}")
    return loaded


def _check_hardware(loaded: Loaded, compute: Compute, params: Params) -> None:
    """Report hardware that differs from the checkpoint's; raise unless params.yaml allows it."""
    now, exact = asdict(compute), params.hardware.resume == "exact"
    changes = dict.fromkeys(
        f"{name} was {then}, is {now.get(name)}"
        for before in (loaded.computes if exact else loaded.computes[-1:])
        for name, then in before.items()
        if now.get(name) != then
    )
    if not changes:
        return
    difference = f"the checkpoint {loaded.path} was made on other hardware: {'; '.join(changes)}"
    if exact:
        raise ValueError(
            f"{difference}. Resuming would give other bits than an uninterrupted run. Set "
            "hardware.resume: any to resume anyway, or delete the folder to train from scratch"
        )
    print(f"train: {difference}; the result may differ in its last bits")


def _say_what_changed(checkpoints: Checkpoints, fingerprint: Fingerprint) -> None:
    """If another training has checkpoints, print why they can't be used."""
    others = [folder for folder in checkpoints.previous_trainings() if any(folder.glob("step-*"))]
    if not others:
        return
    try:
        before = Fingerprint(read_json(others[-1] / FINGERPRINT))
    except ValueError:  # of another training: no reason to stop this one
        print("train: starting from scratch; the last training's checkpoint is corrupt")
        return
    changed = fingerprint.differences(before)
    names = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
    names = names or "hardware"
    print(f"train: starting from scratch: {names} changed since the last training's checkpoint")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that no other process runs the same training."""
    lock = training_lock(folder)
    if not lock.acquire(LOCK_PATIENCE):
        raise ValueError(f"another process runs this training, in {folder}{lock.holder()}")
    try:
        yield
    finally:
        lock.release()
