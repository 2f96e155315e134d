"""What `make` does before anything is installed. (.ci/run is the test of what it does after.)"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of its own, without an environment."""
    root = tmp_path / "a path with spaces"
    root.mkdir()
    shutil.copy(MAKEFILE, root)
    for name in ("pyproject.toml", "requirements-dev.lock"):
        (root / name).touch()
    return root


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make, as if no other make ran the tests."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_alone_lists_every_target(folder: Path) -> None:
    targets = set(re.findall(r"^\.PHONY: (\w+)$", MAKEFILE.read_text(), re.MULTILINE))
    listed = make(folder)
    assert targets >= {"repro", "test", "ui", "lint", "lock", "setup", "clean", "help"}
    assert set(re.findall(r"^  make (\w+) +\S", listed.stdout, re.MULTILINE)) == targets
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("python", ["no-such-python", "false"], ids=["missing", "too old"])
@pytest.mark.parametrize("target", ["repro", "test", "lint", "ui", "verify", "setup"])
def test_without_a_fit_python_every_target_says_so_in_a_line(
    folder: Path, target: str, python: str
) -> None:
    done = make(folder, target, f"PYTHON={python}")
    assert done.returncode != 0
    told, from_make = done.stderr.splitlines()
    assert told == (
        f"error: {python} is not there, or is not 3.11 or newer; name another: make PYTHON=..."
    )
    assert from_make.startswith("make: ")
    assert not (folder / ".venv").exists()


def test_a_set_up_in_place_is_left_alone(folder: Path) -> None:
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(shutil.which("false") or "")
    (folder / ".venv" / ".installed").touch()
    assert make(folder, "setup", "--question").returncode == 0  # nothing to do
    python.unlink()  # by an upgrade of the system
    assert make(folder, "setup", "--question").returncode == 1


def test_a_set_up_that_failed_or_was_interrupted_starts_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)  # made, but with nothing installed
    (folder / ".venv" / ".installing").touch()
    (folder / ".venv" / "half-written").touch()
    monkeypatch.setenv("PIP_NO_INDEX", "true")  # so that pip fails, for want of setuptools
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    linked = folder / "a python"
    linked.symlink_to(Path(sys.executable).resolve())
    done = make(folder, "setup", f"PYTHON={linked}")
    assert done.returncode != 0 and "setuptools" in done.stdout + done.stderr
    assert not (folder / ".venv" / "half-written").exists()
    assert (folder / ".venv" / ".installing").exists()
    assert not (folder / ".venv" / ".installed").exists()


def test_clean_takes_caches_and_leaves_the_rest(folder: Path) -> None:
    kept = ["data/raw/__pycache__/a", "models/a", "reports/a", ".venv/__pycache__/a", "mlflow.db"]
    caches = ["tinyllm/__pycache__/a.pyc", "tinyllm/tokens/__pycache__/a.pyc", ".mypy_cache/a"]
    caches.append("benchmarks/__pycache__/a.pyc")
    for name in [*kept, *caches, "stages/a", "tests/a"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert make(folder, "clean").returncode == 0
    assert all((folder / name).exists() for name in kept)
    assert not any((folder / name).parent.exists() for name in caches)
