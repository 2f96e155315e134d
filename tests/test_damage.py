"""A corrupt file is an error of one line, and a pickle in its place never runs.

Stages run in this process. Each file that they read is replaced in turn, and each file that only
`sync` and DVC read.
"""

import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.helpers import flip_bit
from tests.pipeline import STAGES, Project
from tinyllm.common import console
from tinyllm.common.files import CHECKSUMS, files_in, seal
from tinyllm.evaluation import final_scores
from tinyllm.experiments.rebuild import rebuild
from tinyllm.experiments.verify import verify
from tinyllm.settings.load import load_params
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.outbox import sync

MARKER = Path("sprung")
# Files for transformers, which tinyllm does not read.
NOT_READ = {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md"}
TABLES = {"steps.csv", "evaluations.csv"}  # of reports/train, for the page of the run


class Trap:
    """Loading a pickle of this object creates a file."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{MARKER.absolute()}'",)


def plain(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))


def text(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(), protocol=0))


def of_torch(path: Path) -> None:
    with path.open("wb") as file:
        torch.save(Trap(), file)


def in_an_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([Trap()], dtype=object), allow_pickle=True)


def in_yaml(path: Path) -> None:
    path.write_text(f"seed: !!python/object/apply:os.system [\"touch '{MARKER.absolute()}'\"]\n")


PICKLES = [plain, text, of_torch, in_an_array, in_yaml]


@pytest.mark.parametrize("plant", PICKLES)
def test_the_planted_pickles_work(
    plant: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsafe loading runs them."""
    monkeypatch.chdir(tmp_path)
    plant(path := tmp_path / "file")
    if plant is in_yaml:
        yaml.unsafe_load(path.read_text())
    elif plant is of_torch:
        torch.load(path, weights_only=False)
    else:
        np.load(path, allow_pickle=True)
    assert MARKER.exists()


def stage(name: str) -> Callable[[], None]:
    """A stage's main function, with its arguments from dvc.yaml."""

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", command(name)[2:])
            import_module(command(name)[2]).main()

    return run


def command(name: str) -> list[str]:
    words: str = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][name]["cmd"]
    return words.split()


def refusal(main: Callable[[], object]) -> str | None:
    """The error line of a command; None if it did not fail."""

    def run() -> None:
        main()

    try:
        console.run(run)
    except SystemExit as end:
        if not end.code:
            return None
        assert isinstance(end.code, str)
        assert end.code.startswith("error: ") and "\n" not in end.code
        return end.code
    return None


def inputs(name: str) -> Iterator[Path]:
    """The data that a stage reads according to dvc.yaml."""
    for word in yaml.safe_load(Path("dvc.yaml").read_text())["stages"][name]["deps"]:
        path = Path(word.replace("${download.path}", "corpus"))
        if path.parts[0] in ("corpus", "data", "models", "reports"):
            yield from files_in(path) if path.is_dir() else [path]


@pytest.fixture
def quiet(here: Project) -> Project:
    """Without MLflow and without checkpoints, so that training starts from scratch."""
    here.set({"runtime.tracker": "none"})
    shutil.rmtree(".tinyllm")
    return here


@pytest.mark.parametrize("name", ["tokenize", "split", "train", "evaluate"])
def test_a_stage_rejects_any_file_with_a_flipped_bit(quiet: Project, name: str) -> None:
    before = quiet.outputs()
    files = [p for p in inputs(name) if any((f / CHECKSUMS).exists() for f in p.parents)]
    assert len(files) > 2
    for path in files:
        whole = path.read_bytes()
        flip_bit(path, len(whole) // 2)
        error = refusal(stage(name))
        if path.name not in NOT_READ:
            assert error and (str(path) in error or path.name == CHECKSUMS), (path, error)
            path.write_bytes(whole)
            assert quiet.outputs() == before
        path.write_bytes(whole)


@pytest.mark.parametrize("sealed", [False, True], ids=["", "sealed"])
@pytest.mark.parametrize("name", STAGES)
def test_no_stage_runs_a_pickle(quiet: Project, name: str, sealed: bool) -> None:
    """Not even one with the right checksum."""
    assert quiet.root == Path.cwd()
    settings = [Path("params.yaml")] if "--params" in command(name) else []
    read, unread = list[Path](), list[Path]()
    for path in [*inputs(name), *settings]:
        (unread if is_unread(path) else read).append(path)
    for path in read:
        if sealed and path.name == CHECKSUMS:
            continue
        guarded = (path.parent / CHECKSUMS).exists() and not sealed  # the seal covers it
        for plant in PICKLES[:1] if guarded else PICKLES:
            error = with_pickles(name, [path], plant, sealed)
            is_a_text = path.suffix == ".txt" and plant in (text, in_yaml)
            assert error or is_a_text, (path, plant)
    for plant in PICKLES if unread else []:
        assert not with_pickles(name, unread, plant, sealed), (unread, plant)


def is_unread(path: Path) -> bool:
    """Whether the stage runs with anything in this file, because it does not read it."""
    linked = path.parent == Path("reports/train") and path.name not in TABLES
    return linked or path.name in NOT_READ


def with_pickles(
    name: str, paths: list[Path], plant: Callable[[Path], None], sealed: bool
) -> str | None:
    """Run a stage with pickles in place of files, which no stage may run. Returns its error."""
    folders = {path.parent for path in paths if sealed and (path.parent / CHECKSUMS).exists()}
    whole = {path: path.read_bytes() for path in paths}
    for path in paths:
        plant(path)
    for folder in folders:
        seal(folder)
    error = refusal(stage(name))
    assert not MARKER.exists(), (paths, plant)
    for path, content in whole.items():
        path.write_bytes(content)
    for folder in folders:
        seal(folder)
    return error


def test_a_corrupt_table_is_reported_before_anything_is_scored(
    quiet: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quiet.root == Path.cwd()
    Path("reports/train/steps.csv").write_text("no table")
    monkeypatch.setattr(final_scores, "evaluate", pytest.fail)
    assert "reports/train/steps.csv is corrupt" in (refusal(stage("evaluate")) or "")


@pytest.fixture
def waiting(here: Project, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    """All files kept between runs: checkpoints, a sent journal and a waiting one."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # no follower starts
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here.root / 'mlflow.db'}")
    shutil.copyfile(empty_database, "mlflow.db")
    with Journal(
        Header(stage="train", name="a run"), load_params(Path("params.yaml")).runtime
    ) as j:
        j.metrics(0, {"loss/batch": 1.0})
        j.file(Path("models/tinyllm"), "model")
    shutil.copytree(".tinyllm", "kept")
    return here.root


def planted(folder: str) -> Iterator[Path]:
    """Each file of a kind in turn, replaced by each pickle; restores the file afterwards."""
    for path in files_in(Path(".tinyllm") / folder):
        for plant in (plain, of_torch):
            plant(path)
            yield path
            assert not MARKER.exists(), path
            shutil.rmtree(".tinyllm")
            shutil.copytree("kept", ".tinyllm")


@pytest.mark.slow
def test_training_runs_no_pickle_in_its_state_folder(waiting: Path) -> None:
    """It rejects a checkpoint; it replaces a journal for MLflow and continues."""
    assert waiting == Path.cwd()
    for path in planted("trainings"):
        of_a_checkpoint = path.parent.name.startswith("step-")
        assert bool(refusal(verify)) == (of_a_checkpoint or path.name == "fingerprint.json"), path
        assert bool(refusal(stage("train"))) == of_a_checkpoint, path
    (bookmark,) = Path(".tinyllm/trainings").glob("*/journal")
    for path in planted(f"sent/{bookmark.read_text()}"):
        assert refusal(stage("train")) is None, path


def test_the_sender_runs_no_pickle_in_a_journal(waiting: Path) -> None:
    assert waiting == Path.cwd()
    for _ in planted("journals"):
        sync(0)


@pytest.mark.slow
def test_no_pickle_in_reports_or_dvc_files_is_run(
    here: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in [
        *files_in(Path("reports")),
        Path("dvc.lock"),
        Path("dvc.yaml"),
        Path("params.yaml"),
    ]:
        whole = path.read_bytes()
        for plant in (plain, in_yaml):
            plant(path)
            # A run is rebuilt from files that training and evaluation read and wrote.
            mains = (verify,) if path.parent.name == "corpus" else (verify, rebuild)
            for main in mains:
                error = refusal(main)
                assert error
                lines = f"{error}\n{capsys.readouterr().out}"
                assert path.name in lines or str(path.parent) in lines, (path, error)
            assert not MARKER.exists(), path
        if path.suffix in (".yaml", ".lock"):
            assert here.dvc("status", check=False).returncode != 0
            assert not MARKER.exists(), path
        path.write_bytes(whole)
