"""`make verify` finds a flipped bit in every file of the pipeline, and prints how to repair it."""

import hashlib
import os
import re
import shutil
import subprocess
from contextlib import nullcontext
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.pipeline import Project
from tinyllm.common.files import CHECKSUMS, files_in, seal
from tinyllm.experiments.verify import verify as main

CACHE = Path(".dvc/cache/files/md5")
OUTPUTS = (
    *("data/raw", "data/tokenizer", "data/tokens", "data/splits/train", "data/splits/validation"),
    *("data/splits/test", "models/tinyllm", "reports/corpus", "reports/train", "reports/evaluate"),
)
# Outputs of which DVC keeps no copy.
UNKEPT = (("reports", "corpus"), ("reports", "train"), ("reports", "evaluate"))
SHARD = Path("data/tokens/tokens-00000.npy")


def corrupt(path: Path) -> None:
    """Flip a bit as a disk does: time, size and mode do not change."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def verify(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The faults that `make verify` prints; every other line is an intact group."""
    capsys.readouterr()
    try:
        main()
        count = 0
    except ValueError as error:
        count = int(str(error).split()[0])
    faults = [line for line in capsys.readouterr().out.splitlines() if "  intact" not in line]
    assert len(faults) == count
    return faults


def copy_of(path: Path) -> Path:
    """The object of a file in the cache."""
    return next(file for file in files_in(CACHE) if file.read_bytes() == path.read_bytes())


def test_an_intact_output_is_reported_with_files_and_bytes(here: Project) -> None:
    done = here.run("python", "-m", "tinyllm", "verify")
    found = files_in(here.root / "data/tokens")
    size = sum(file.stat().st_size for file in found)
    line = next(line for line in done.stdout.splitlines() if line.startswith("data/tokens "))
    assert re.split(r"  +", line) == [
        "data/tokens",
        f"{len(found)} files",
        f"{size / 1e3:.1f} kB",
        "intact",
    ]
    names = [line.split("  ")[0] for line in done.stdout.splitlines()]
    (training,) = Path(".tinyllm/trainings").iterdir()
    assert set(names) == {
        *OUTPUTS,
        "reports/splits.json",
        "reports/index.html",
        "data/test_losses.npy",
        "DVC's cache",
        str(training),
    }


def test_a_bit_flipped_in_any_output_is_found(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.root == Path.cwd()
    # One file of each folder at a time, until every file has been tested.
    assert verify(capsys) == []
    for turn in zip_longest(*(files_in(Path(folder)) for folder in OUTPUTS)):
        files = [*filter(None, turn), Path("reports/splits.json")]
        for file in files:
            corrupt(file)
        faults = verify(capsys)
        # For a folder without a copy, DVC records one hash of all files.
        named = [str(f.parent if f.parts[:2] in UNKEPT else f) for f in files]
        assert sorted(fault.split(" ")[0] for fault in faults) == sorted(named)
        for file in files:
            corrupt(file)
    assert verify(capsys) == []


def test_a_bit_flipped_in_any_object_of_the_cache_is_found(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.root == Path.cwd()
    objects = files_in(CACHE)
    assert {file.stat().st_mode & 0o777 for file in objects} == {0o444}
    assert {file.suffix for file in objects} == {"", ".dir"}
    for first in range(4):
        for file in objects[first::4]:
            corrupt(file)
        faults = verify(capsys)
        assert sorted(fault.split(" ")[0] for fault in faults) == sorted(
            map(str, objects[first::4])
        )
        for file in objects[first::4]:
            corrupt(file)


@pytest.mark.slow
def test_a_bit_flipped_in_an_object_of_another_version_is_found(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before, own = here.outputs(), set(files_in(CACHE))
    params = Path("params.yaml").read_bytes()
    other: dict[str, object] = {"evaluate.stride": 4, "runtime.tracker": "none"}
    here.set(other)
    assert here.repro() == ["evaluate"]
    (losses,) = set(files_in(CACHE)) - own
    whole = losses.read_bytes()
    listing = keep(b"[]", ".dir")
    Path("params.yaml").write_bytes(params)
    here.run("git", "checkout", "--quiet", "--", "dvc.lock", "reports")
    here.dvc("checkout", "--force")
    assert here.outputs() == before
    (losses.parent / f"{losses.name}.AbC-d.tmp").write_bytes(b"half")  # a name as DVC uses
    assert verify(capsys) == []

    corrupt(listing)
    (fault,) = verify(capsys)
    assert fault.startswith(f"{listing} is not what its name says (of a version")
    listing.unlink()
    corrupt(losses)
    corrupt(mine := copy_of(SHARD))
    faults = sorted(verify(capsys), key=lambda fault: "another version" in fault)
    assert [fault.partition(" ")[0] for fault in faults] == [str(mine), str(losses)]
    assert "`dvc commit --force data/tokens`" in faults[0]
    follow(faults[0])
    here.set(other)
    follow(faults[1])
    assert verify(capsys) == []
    assert losses.read_bytes() == whole


def keep(content: bytes, kind: str) -> Path:
    """Add an object to the cache."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest() + kind
    path = CACHE / digest[:2] / digest[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
    return path


def test_the_cache_is_read_even_if_none_of_its_objects_is_in_dvc_lock(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.root == Path.cwd()
    shutil.rmtree(CACHE)
    for folder in ("data", "models", ".tinyllm"):
        shutil.rmtree(folder)
    CACHE.mkdir()
    corrupt(path := keep(b"of a time long ago", ""))
    with pytest.raises(ValueError, match="1 fault"):
        main()
    (fault,) = [line for line in capsys.readouterr().out.splitlines() if str(CACHE) in line]
    assert fault.startswith(f"{path} is not what its name says (of a version")


class Bar:
    """A progress bar that only counts."""

    total = n = 0

    def update(self, count: int) -> None:
        self.n += count


def test_the_bar_reaches_its_total(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert here.root == Path.cwd()
    keep(b"of another version", "")
    bar = Bar()
    monkeypatch.setattr("tinyllm.experiments.verify.tqdm", lambda **_: nullcontext(bar))
    main()
    assert bar.n == bar.total > 0


def test_a_bit_flipped_in_a_checkpoint_is_found(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.root == Path.cwd()
    (training,) = Path(".tinyllm/trainings").iterdir()
    files = [*files_in(next(training.glob("step-*"))), training / "fingerprint.json"]
    assert len(files) == 4
    for file in files:
        corrupt(file)
        (fault,) = verify(capsys)
        assert (str(file) if file.name != "manifest.json" else str(file.parent)) in fault
        corrupt(file)


def follow(advice: str) -> None:
    """Follow a line's advice: delete the file that it names, then run its last command."""
    named = re.search(r"; delete (?!it\b)(\S+):", advice)
    path = Path(named[1] if named else advice.partition(" ")[0])
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if commands := re.findall(r"`(.+?)`", advice):
        command = next(c for c in commands if c != "dvc pull")  # no remote here
        subprocess.run(command, shell=True, check=True, capture_output=True)


@pytest.mark.parametrize(
    "targets", ["file", "object", "listing", "file and object", "file and listing", "report"]
)
def test_the_advice_repairs_the_fault(
    here: Project, capsys: pytest.CaptureFixture[str], targets: str
) -> None:
    before = here.outputs()
    listing = next(
        file for file in files_in(CACHE) if file.suffix == ".dir" and SHARD.name in file.read_text()
    )
    paths = {"object": copy_of(SHARD), "listing": listing, "file": SHARD}
    paths["report"] = Path("reports/evaluate/samples.md")
    for name, path in paths.items():
        if name in targets:
            corrupt(path)
    faults = verify(capsys)
    assert faults
    while faults:
        for fault in faults:
            follow(fault)
        remaining = verify(capsys)
        assert len(remaining) < len(faults), remaining
        faults = remaining
    assert here.outputs() == before
    assert here.repro() == []


def test_a_missing_file_and_an_extra_file(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.root == Path.cwd()
    SHARD.unlink()
    (SHARD.parent / "more.npy").write_text("")
    more, missing = verify(capsys)
    assert missing.startswith(f"{SHARD} is missing")
    assert more.startswith("data/tokens/more.npy is not what dvc.lock records")
    assert "; `dvc checkout" in missing and "; delete it, then `dvc checkout" in more
    shutil.rmtree(SHARD.parent)
    (fault,) = verify(capsys)
    assert fault == "data/tokens is missing; `dvc checkout --force data/tokens`"
    follow(fault)
    assert verify(capsys) == []


def test_the_advice_for_a_missing_file_does_not_delete_it(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.root == Path.cwd()
    copy_of(SHARD).unlink()
    (kept,) = verify(capsys)
    assert kept.endswith(f"is missing (DVC's copy of {SHARD}); `dvc commit --force data/tokens`")
    SHARD.unlink()
    shutil.rmtree("reports/train")
    faults = verify(capsys)
    assert [fault.partition("; ")[2] for fault in faults] == [
        "`dvc pull` downloads it, or `dvc repro` makes it",
        "`git checkout -- reports/train` restores it, or `dvc repro` makes it",
        "`dvc pull` downloads it, or `dvc repro` makes it",
    ]
    follow(faults[1])
    follow(faults[0])
    assert verify(capsys) == []


def test_a_folder_recorded_without_a_file_is_made_again(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """The seal has the file; DVC's record does not."""
    before = here.outputs()
    config = Path("models/tinyllm/generation_config.json")
    config.unlink()
    here.dvc("commit", "--force", "train")
    (fault,) = verify(capsys)
    assert fault.startswith(f"{config} is missing; delete models/tinyllm: ")
    follow(fault)
    assert verify(capsys) == []
    assert here.outputs() == before


def test_a_replaced_file_breaks_the_seal(here: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Also if DVC has recorded the replaced file."""
    config = Path("models/tinyllm/generation_config.json")
    config.write_text("{}")
    here.dvc("commit", "--force", "train")
    (fault,) = verify(capsys)
    assert fault.startswith(f"{config} is not what {CHECKSUMS} records")
    seal(config.parent)
    here.dvc("commit", "--force", "train")
    assert verify(capsys) == []


def test_a_fresh_clone_has_no_outputs(here: Project, tmp_path: Path) -> None:
    here.run("git", "clone", "--quiet", str(here.root), str(tmp_path / "fresh"))
    done = Project(tmp_path / "fresh").run("python", "-m", "tinyllm", "verify")
    assert "No output in dvc.lock exists here yet" in done.stdout
    assert "reports/train" in done.stdout  # reports are in Git


def test_a_fault_is_printed_in_one_line_and_sets_the_exit_status(here: Project) -> None:
    corrupt(SHARD)
    assert "up to date" in here.dvc("status").stdout
    done = here.run("python", "-m", "tinyllm", "verify", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: 1 fault\n"
    assert f"{SHARD} is not what dvc.lock records; delete it, then `dvc checkout" in done.stdout
    Path("dvc.lock").write_text("a: [")
    done = here.run("python", "-m", "tinyllm", "verify", check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "dvc.lock" in line
