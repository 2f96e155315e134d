"""Checkpoints are complete or absent, and a corrupt one is detected before training resumes."""

import fcntl
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers import random_model, train_settings
from tinyllm.common import files
from tinyllm.common.fingerprint import Fingerprint
from tinyllm.compute import Compute
from tinyllm.training.checkpoints import checkpoint
from tinyllm.training.checkpoints.checkpoint import Checkpoints, CorruptCheckpoint
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

NEW = {"a": torch.arange(1000)}
COMPUTE = Compute("cpu", "fp32", 1, "a processor", "AVX2", "2.0", "2.4")


def checkpoints(folder: Path, name: str = "a") -> Checkpoints:
    return Checkpoints(folder, Fingerprint({"train.seed": name}), COMPUTE)


def make_state(step: int) -> TrainState:
    """A state after a few steps, so that the optimizer has averages."""
    model = random_model(seed=step)
    state = TrainState(model, make_optimizer(model, train_settings()))
    model.loss(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]])).backward()
    state.optimizer.step()
    state.step = step
    state.history.add_step(step, {"loss": 1 / 3, "learning_rate": 1e-3, "grad_norm": 2.0})
    state.observe(1.0 + step, keep_weights=True)
    state.observe(2.0 + step, keep_weights=True)  # no improvement
    return state


def assert_same(state: TrainState, other: TrainState) -> None:
    mine, theirs = state.tensors(), other.tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert state.facts() == other.facts()


def newest_step(kept: Checkpoints) -> int | None:
    loaded = kept.newest()
    return None if loaded is None else loaded.facts["step"]


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_a_state_is_restored_bit_for_bit(tmp_path: Path) -> None:
    kept, state = checkpoints(tmp_path), make_state(7)
    kept.save(state, wait=True)
    loaded = kept.newest()
    assert loaded is not None
    fresh = TrainState(random_model(seed=99), make_optimizer(random_model(), train_settings()))
    fresh.optimizer = make_optimizer(fresh.model, train_settings())
    fresh.restore(loaded.tensors, loaded.facts)
    assert_same(fresh, state)


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    for step in (1, 2, 30, 4000):
        kept.save(make_state(step), wait=True)
    assert [path.name for path in kept.paths()] == ["step-000000030", "step-000004000"]


def test_training_continues_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    kept, state = checkpoints(tmp_path), make_state(5)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    kept.save(state)
    for parameter in state.model.parameters():
        parameter.data.zero_()
    kept.wait()
    loaded = kept.newest()
    assert loaded is not None
    assert all(torch.equal(loaded.tensors[name], before[name]) for name in before)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    kept.save(make_state(3), wait=True)
    (path,) = kept.paths()
    chance = random.Random(1)
    files = files_of(path)
    for trial in range(100):
        file = files[trial % len(files)]
        whole = file.read_bytes()
        corrupt = bytearray(whole)
        corrupt[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        file.write_bytes(corrupt)
        with pytest.raises(CorruptCheckpoint, match="delete that folder"):
            kept.newest()
        file.write_bytes(whole)
    assert newest_step(kept) == 3


@pytest.mark.parametrize("name", ["state.safetensors", "facts.json", "manifest.json"])
def test_a_truncated_checkpoint_is_skipped(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = checkpoints(tmp_path)
    for step in (3, 6):
        kept.save(make_state(step), wait=True)
    file = kept.paths()[-1] / name
    whole = file.read_bytes()
    for twentieth in range(20):
        file.write_bytes(whole[: len(whole) * twentieth // 20])
        assert newest_step(kept) == 3
        assert "is corrupt" in capsys.readouterr().out
    file.unlink()
    assert newest_step(kept) == 3


def test_a_corrupt_checkpoint_does_not_count_as_kept(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    for step in (3, 6):
        kept.save(make_state(step), wait=True)
    (kept.paths()[-1] / "facts.json").write_bytes(b"")
    loaded = kept.newest()
    assert loaded is not None
    kept.resume_from(loaded)
    kept.save(make_state(5), wait=True)
    assert [path.name for path in kept.paths()] == ["step-000000003", "step-000000005"]


def test_the_oldest_trainings_are_removed_except_running_ones(tmp_path: Path) -> None:
    names = ["d", "c", "b", "a", "running", "old"]
    folders = {}
    for age, name in enumerate(names):
        folders[name] = checkpoints(tmp_path, name).folder
        (folders[name] / "lock").touch()
        os.utime(folders[name], (1e9 - age, 1e9 - age))
    with (folders["running"] / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        checkpoints(tmp_path, "new").prune()
    assert [name for name in names if folders[name].exists()] == ["d", "c", "b", "running"]


def test_a_corrupt_new_checkpoint_keeps_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = checkpoints(tmp_path)
    for step in (3, 6):
        kept.save(make_state(step), wait=True)
    monkeypatch.setattr(checkpoint, "save_file", lambda _, path: path.write_bytes(b"rubbish"))
    monkeypatch.setattr(checkpoint, "sha256_of", forgetful)
    with pytest.raises(OSError, match="corrupt"):
        kept.save(make_state(9), wait=True)
    assert newest_step(kept) == 6


def forgetful(path: Path) -> str:
    """The hash of a file as written, on a disk that returns other bytes."""
    return "0" * 64 if ".tmp" in str(path) else files.sha256_of(path)


def test_a_pickle_in_place_of_any_file_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch '{tmp_path / 'sprung'}'",)

    torch.save(Trap(), tmp_path / "pickle")
    kept = checkpoints(tmp_path / "trainings")
    kept.save(make_state(3), wait=True)
    for file in files_of(kept.paths()[0]):
        whole = file.read_bytes()
        shutil.copyfile(tmp_path / "pickle", file)
        with pytest.raises(CorruptCheckpoint):
            kept.newest()
        file.write_bytes(whole)
    assert not (tmp_path / "sprung").exists()


def save_in_a_child(folder: Path, hook: Callable[[str], None] | None) -> int:
    """Save step 6 in a separate process, with a hook at each operation on the disk."""
    child = os.fork()
    if child == 0:
        try:
            if hook is not None:
                run, flush = hook, files.sync
                files.sync = lambda path: (run("flush"), flush(path))[1]
                interesting = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")
                sys.addaudithook(lambda event, _: run(event) if event in interesting else None)
            checkpoints(folder)._write(6, NEW, {"step": 6, "computes": []})
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def test_a_process_killed_at_any_point_of_a_save_leaves_an_intact_checkpoint(
    tmp_path: Path,
) -> None:
    start = tmp_path / "start"
    kept = checkpoints(start)
    for step in (2, 4):
        kept.save(make_state(step), wait=True)
    ends: list[int | None] = []
    for point in range(1, 1000):
        folder = tmp_path / f"end-{point}"
        shutil.copytree(start, folder)
        seen = 0

        def end(_: str, point: int = point) -> None:
            nonlocal seen
            seen += 1
            if seen == point:
                os.kill(os.getpid(), signal.SIGKILL)

        status = save_in_a_child(folder, end)
        left = checkpoints(folder)
        names = [path.name for path in left.paths()]
        assert names[-1] in ("step-000000004", "step-000000006")
        assert newest_step(left) == int(names[-1][-1])
        ends.append(int(names[-1][-1]))
        left.prune()
        assert not [*left.folder.glob(".*")]
        shutil.rmtree(folder)
        if status == 0:
            break
    assert ends.count(4) > 5 and ends.count(6) > 2  # kills before and after completion


def test_a_full_disk_is_reported_and_the_older_checkpoint_is_kept(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    kept.save(make_state(2), wait=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # bytes in a file
        with pytest.raises(OSError, match="can't save a checkpoint in"):
            kept.save(make_state(4), wait=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert newest_step(kept) == 2
    assert [path.name for path in kept.folder.iterdir() if path.is_dir()] == ["step-000000002"]
    kept.save(make_state(4), wait=True)
    assert newest_step(kept) == 4


def test_each_training_has_its_own_checkpoints_and_old_ones_are_removed(tmp_path: Path) -> None:
    for number in range(8):
        kept = checkpoints(tmp_path, str(number))
        assert kept.newest() is None
        kept.save(make_state(1), wait=True)
        os.utime(kept.folder, (number, number))
        kept.prune()
    assert len(list(tmp_path.iterdir())) == 4
    assert kept.folder.exists()


def no_folder(state: Path) -> None:
    state.write_text("a file")


def read_only(state: Path) -> None:
    """A folder in /proc, where even root can't create files."""
    state.symlink_to("/proc/self")


@pytest.mark.parametrize("make", [no_folder, read_only], ids=lambda make: make.__name__)
def test_the_error_for_an_unwritable_folder_explains_its_purpose(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    state = tmp_path / ".tinyllm"
    make(state)
    expected = rf"^\.tinyllm \(checkpoints .*\): can't write .*: \w.*\. Make {state} a folder that"
    with pytest.raises(ValueError, match=expected):
        checkpoints(state / "trainings")
