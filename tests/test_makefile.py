"""`make` before anything is installed. (.ci/run tests it afterwards.)"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project without an environment."""
    root = tmp_path / "a path with spaces"
    root.mkdir()
    shutil.copy(MAKEFILE, root)
    for name in ("pyproject.toml", "requirements-dev.lock"):
        (root / name).touch()
    return root


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make, without variables of a make that runs the tests."""
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
def test_without_a_suitable_python_every_target_prints_one_line(
    folder: Path, target: str, python: str
) -> None:
    done = make(folder, target, f"PYTHON={python}")
    assert done.returncode != 0
    error, from_make = done.stderr.splitlines()
    assert error == (
        f"error: {python} is not there, or is not 3.11 or newer; name another: make PYTHON=..."
    )
    assert from_make.startswith("make: ")
    assert not (folder / ".venv").exists()


def test_a_complete_environment_is_not_changed(folder: Path) -> None:
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(shutil.which("false") or "")
    (folder / ".venv" / ".installed").touch()
    assert make(folder, "setup", "--question").returncode == 0  # up to date
    python.unlink()  # as an upgrade of the system does
    assert make(folder, "setup", "--question").returncode == 1


def test_a_failed_or_interrupted_setup_starts_from_scratch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)  # created, but with nothing installed
    (folder / ".venv" / ".installing").touch()
    (folder / ".venv" / "half-written").touch()
    monkeypatch.setenv("PIP_NO_INDEX", "true")  # pip fails, because setuptools is missing
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    linked = folder / "a python"
    linked.symlink_to(Path(sys.executable).resolve())
    done = make(folder, "setup", f"PYTHON={linked}")
    assert done.returncode != 0 and "setuptools" in done.stdout + done.stderr
    assert not (folder / ".venv" / "half-written").exists()
    assert (folder / ".venv" / ".installing").exists()
    assert not (folder / ".venv" / ".installed").exists()


def fake_python(folder: Path, script: str) -> None:
    """An environment that is made, whose Python runs a shell script."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


TALK = "for n in $(seq 600); do echo line $n; done"


def test_a_set_up_prints_a_line_a_step_and_keeps_the_rest_in_a_file(folder: Path) -> None:
    fake_python(folder, f"case $* in *pip*) {TALK};; esac")
    done = make(folder, "setup")
    assert done.returncode == 0 and done.stderr == ""
    title, step = done.stdout.splitlines()
    assert title.startswith("Setting up .venv")
    assert re.fullmatch(r"  installing packages +\d+ s", step)
    assert (folder / ".venv/setup.log").read_text().splitlines()[-1] == "line 600"


def test_a_failed_set_up_shows_the_end_of_that_file_and_names_it(folder: Path) -> None:
    fake_python(folder, f"case $* in *pip*) {TALK}; echo no such package >&2; exit 3;; esac")
    done = make(folder, "setup")
    error, *lines = done.stderr.splitlines()
    assert done.returncode != 0
    assert error.startswith("error: installing packages failed; ")
    assert error.endswith("in .venv/setup.log:")
    assert "  no such package" in lines and "  line 600" in lines and len(lines) < 20
    assert "line 600" not in done.stdout and done.stdout.endswith("failed\n")


def test_clean_deletes_only_caches(folder: Path) -> None:
    kept = ["data/raw/__pycache__/a", "models/a", "reports/a", ".venv/__pycache__/a", "mlflow.db"]
    caches = ["tinyllm/__pycache__/a.pyc", "tinyllm/data/__pycache__/a.pyc", ".mypy_cache/a"]
    caches.append("benchmarks/__pycache__/a.pyc")
    for name in [*kept, *caches, "stages/a", "tests/a"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert make(folder, "clean").returncode == 0
    assert all((folder / name).exists() for name in kept)
    assert not any((folder / name).parent.exists() for name in caches)


# ----- an environment that is a link


@pytest.fixture
def other(folder: Path) -> Path:
    """A complete environment elsewhere, to which the project's `.venv` links."""
    other = folder.parent / "other" / ".venv"
    python = other / "bin" / "python"
    python.parent.mkdir(parents=True)
    # It is a wrapper of the environment that runs this test, and refuses pip.
    refuse = 'case "$*" in *pip*) touch "$(dirname "$0")/pip-was-here"; exit 1;; esac'
    python.write_text(f'#!/bin/sh\n{refuse}\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (other / ".installed").touch()
    os.utime(other / ".installed", (1e9, 1e9))  # older than the files of this clone
    (folder / ".venv").symlink_to(other)
    (folder / "pyproject.toml").write_text(
        f'[project]\ndependencies = ["torch=={version("torch").split("+")[0]}", '
        "\"not-of-this-python==1.0; python_version < '3'\"]\n"
        f'[project.optional-dependencies]\ndev = ["types_PyYAML=={version("types-PyYAML")}"]\n'
    )
    return other


def state(folder: Path) -> dict[str, float]:
    return {str(f.relative_to(folder)): f.lstat().st_mtime for f in folder.rglob("*")}


def test_a_linked_environment_is_used_unchanged(folder: Path, other: Path) -> None:
    for name in ("stages", "tinyllm", "tests", "benchmarks"):
        (folder / name).mkdir()
    before = state(other)
    for target in ("setup", "clean"):
        done = make(folder, target)
        assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "Setting up" not in done.stdout
    assert state(other) == before and (folder / ".venv").is_symlink()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda project, _: (project / "pyproject.toml").write_text(
            '[project]\ndependencies = ["torch==0.1"]'), "lacks torch==0.1;"),
        (lambda _, other: (other / ".installed").unlink(), "is no finished environment;"),
        (lambda _, other: (other / ".installing").touch(), "is no finished environment;"),
        (lambda _, other: (other / "bin" / "python").unlink(), "lacks a Python that works;"),
        (lambda _, other: shutil.rmtree(other), "is no finished environment;"),
    ],
    ids=["other versions", "not installed", "interrupted", "without Python", "gone"],
)  # fmt: skip
@pytest.mark.parametrize("target", ["repro", "setup"])
def test_an_unsuitable_linked_environment_is_reported_and_not_changed(
    folder: Path, other: Path, change: Callable[[Path, Path], object], reason: str, target: str
) -> None:
    change(folder, other)
    before = state(other)
    done = make(folder, target)
    assert done.returncode != 0
    line = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert f".venv is a link to {other}, which {reason}" in line, done.stderr
    assert line.endswith("set it up there, or remove the link")
    assert state(other) == before and (folder / ".venv").is_symlink()


# ----- where torch comes from


def test_a_configured_index_is_passed_to_pip(folder: Path) -> None:
    fake_python(folder, 'echo "$@" >> calls.txt')
    address = "https://download.pytorch.org/whl/cpu"
    assert make(folder, "setup", f"TORCH_INDEX={address}").returncode == 0
    (folder / ".venv" / ".installed").unlink()
    assert make(folder, "setup").returncode == 0
    with_index, without = re.findall(r".*install.*", (folder / "calls.txt").read_text())
    assert f"--extra-index-url {address} -c requirements-dev.lock" in with_index
    assert "index" not in without


def test_pip_installs_the_build_of_torch_on_that_index(tmp_path: Path) -> None:
    """Of two builds of the pinned version, pip selects the one with a local version."""
    for index, build in (("pypi", "2.13.0"), ("cpu", "2.13.0+cpu")):
        package = tmp_path / index / "torch"
        package.mkdir(parents=True)
        with zipfile.ZipFile(package / f"torch-{build}-py3-none-any.whl", "w") as wheel:
            info = f"torch-{build}.dist-info"
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {build}\n"
            )
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{info}/RECORD", "")
        name = f"torch-{build}-py3-none-any.whl"
        (package / "index.html").write_text(f'<a href="{name.replace("+", "%2B")}">{name}</a>')
    (tmp_path / "lock").write_text("torch==2.13.0\n")
    command = [
        sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--quiet",
        "--report", "-", "--ignore-installed", "--disable-pip-version-check",
        "-c", str(tmp_path / "lock"), "--index-url", (tmp_path / "pypi").as_uri(), "torch==2.13.0",
    ]  # fmt: skip
    for more, build in (
        ([], "2.13.0"), (["--extra-index-url", (tmp_path / "cpu").as_uri()], "2.13.0+cpu"),
    ):  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
        environment["PIP_CONFIG_FILE"] = os.devnull
        done = subprocess.run(
            [*command, *more], env=environment, capture_output=True, text=True, check=True
        )
        (chosen,) = json.loads(done.stdout)["install"]
        assert chosen["metadata"]["version"] == build
