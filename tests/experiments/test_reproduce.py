"""A run is repeated from what MLflow, Git and DVC hold, or what is missing is reported."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experiments.runs_project import only_run
from tests.helpers import ROOT
from tests.pipeline import Project, stages_run, words
from tinyllm import compute
from tinyllm.common.files import CHECKSUMS, seal, sha256_of
from tinyllm.compute import choose
from tinyllm.experiments import run_files
from tinyllm.experiments.recorded import Recorded, by_id
from tinyllm.experiments.run_files import environment
from tinyllm.experiments.sameness import compare, what_is_same
from tinyllm.experiments.surroundings import differences, pinned
from tinyllm.experiments.work_tree import make, md5_of, plan
from tinyllm.settings.load import load_params
from tinyllm.tracking.mlflow.runs import MODEL_TAG
from tinyllm.tracking.origin import PATCH


def with_tags(project: Project, **tags: str) -> Recorded:
    """The run, with other tags in MLflow; an underscore stands for a dot."""
    from mlflow import MlflowClient

    run = only_run(project)
    for name, value in tags.items():
        MlflowClient().set_tag(run.run_id, name.replace("_", "."), value)
    return by_id(run.run_id)


def with_file(project: Project, name: str, content: Any) -> Recorded:
    """The run, with another content of one of its files."""
    run = only_run(project)
    path = project.root / "mlartifacts" / run.run_id / "artifacts" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content) if isinstance(content, dict) else content)
    return run


def test_a_run_keeps_what_a_reproduction_needs(tracked: Project) -> None:
    run = only_run(tracked)
    assert run.file(run_files.PARAMS) == (tracked.root / "params.yaml").read_bytes()
    assert list(run.lock["stages"]) == list(run_files.DATA_STAGES)
    assert run.environment == environment(tracked.root)
    assert run.environment["packages"]["torch"]
    assert run.state["inputs"] == {}


def test_the_work_tree_has_everything_but_the_model(tracked: Project, tmp_path: Path) -> None:
    """Only training and evaluation have to run: the data are links to the project's cache."""
    run = only_run(tracked)
    tracked.append("tinyllm/compute.py", "# edited later\n")
    tracked.set({"train.max_steps": 999})
    tree = make(plan(run, tracked.root), tmp_path / "tree")
    assert (tree / "params.yaml").read_bytes() == run.file(run_files.PARAMS)
    assert "edited later" not in (tree / "tinyllm/compute.py").read_text()
    dry = Project(tree).dvc("repro", "--dry", "--no-run-cache", "train")
    assert stages_run(dry.stdout) == ["train"]
    tokens = sorted((tree / "data/tokens").glob("*"))
    assert [sha256_of(path) for path in tokens] == [
        sha256_of(path) for path in sorted((tracked.root / "data/tokens").glob("*"))
    ]
    cached = {path.stat().st_ino for path in (tracked.root / ".dvc/cache").rglob("*")}
    assert all(path.stat().st_ino in cached for path in tokens)
    assert not (tree / ".tinyllm/trainings").exists()


def test_the_patch_of_a_run_is_applied(tracked: Project, tmp_path: Path) -> None:
    tracked.append("tinyllm/compute.py", "# an edit\n")
    patch = tracked.run("git", "diff", "--full-index", "--binary").stdout
    tracked.run("git", "checkout", ".")
    with_file(tracked, PATCH, patch)
    run = with_file(tracked, run_files.STATE, {"patch": True})
    tree = make(plan(run, tracked.root), tmp_path / "tree")
    assert (tree / "tinyllm/compute.py").read_text().endswith("# an edit\n")
    assert not (tracked.root / "tinyllm/compute.py").read_text().endswith("# an edit\n")


def test_a_missing_commit_is_reported(tracked: Project) -> None:
    run = with_tags(tracked, mlflow_source_git_commit="1" * 40)
    with pytest.raises(ValueError, match="commit 1111111111 is not in this repository"):
        plan(run, tracked.root)


def test_unknown_code_is_reported(tracked: Project) -> None:
    with pytest.raises(ValueError, match="its code is unknown"):
        plan(with_tags(tracked, git_dirty="unknown"), tracked.root)


def test_a_missing_patch_is_reported(tracked: Project) -> None:
    run = with_file(tracked, run_files.STATE, {"patch": True})
    with pytest.raises(ValueError, match=r"changes\.patch, the uncommitted changes of the code"):
        plan(run, tracked.root)


@pytest.mark.parametrize(
    ("change", "what"), [("edited", "has changed since"), ("deleted", "does not exist any more")]
)
def test_text_that_nothing_holds_is_reported(tracked: Project, change: str, what: str) -> None:
    corpus = tracked.root / "own"
    corpus.mkdir()
    (corpus / "text.txt").write_text(words("own", 9))
    md5 = md5_of(corpus)
    assert md5 is not None
    run = with_file(tracked, run_files.STATE, {"inputs": {"own": md5}})
    assert plan(run, tracked.root).copies == ["own"]
    if change == "edited":
        (corpus / "text.txt").write_text("another text")
    else:
        shutil.rmtree(corpus)
    with pytest.raises(ValueError, match=f"own: {what}.* neither Git nor DVC has it.*{md5}"):
        plan(run, tracked.root)


def test_lost_text_is_no_loss_if_its_tokens_are_cached(tracked: Project) -> None:
    run = with_file(tracked, run_files.STATE, {"inputs": {"corpus": "0" * 32 + ".dir"}})
    assert plan(run, tracked.root).lost == ["corpus"]
    shutil.rmtree(tracked.root / ".dvc/cache")
    with pytest.raises(ValueError, match="corpus: has changed since the run"):
        plan(run, tracked.root)


def test_the_hash_of_a_folder_is_dvcs(tracked: Project) -> None:
    lock = only_run(tracked).lock["stages"]
    (raw,) = lock["download"]["outs"]
    assert md5_of(tracked.root / raw["path"]) == raw["md5"]
    assert md5_of(tracked.root / "nothing") is None


def test_a_password_is_taken_from_the_project(tracked: Project) -> None:
    tracked.set({"download.url": "https://me:secret@example.com/x.txt"})
    text = (tracked.root / "params.yaml").read_text()
    run = with_file(tracked, run_files.PARAMS, text.replace("secret", "***"))
    run.entry.data.params["download.url"] = "https://me:***@example.com/x.txt"
    made = plan(run, tracked.root)
    assert made.settings["download"]["url"] == "https://me:secret@example.com/x.txt"
    tracked.set({"download.url": None})
    with pytest.raises(ValueError, match=r"download\.url: its password is not recorded"):
        plan(run, tracked.root)


def test_the_results_of_the_run_are_the_same(tracked: Project) -> None:
    rows = compare(only_run(tracked), tracked.root)
    assert {"weights", "model folder", "test losses", "test bits_per_byte"} < {r.name for r in rows}
    assert all(row.same for row in rows)


def test_what_differs_is_named(tracked: Project) -> None:
    """A single changed bit, in the last digit of one test token's loss."""
    path = tracked.root / "data/test_losses.npy"
    losses = np.load(path)
    losses[7] = np.nextafter(losses[7], 100)
    path.unlink()  # a link into the cache
    np.save(path, losses)
    by_name = {row.name: row for row in compare(with_weights(tracked), tracked.root)}
    assert not by_name["weights"].same
    assert not by_name["test losses"].same
    assert by_name["test losses"].verdict.startswith("1 differ, by ")
    assert by_name["test bits_per_byte"].same


def test_what_mlflow_does_not_have_is_not_claimed(tracked: Project) -> None:
    run = only_run(tracked)
    shutil.rmtree(tracked.root / "mlartifacts" / run.run_id / "artifacts" / "test_losses")
    rows = compare(run, tracked.root)
    assert all(row.same for row in rows)
    assert what_is_same(rows).endswith("MLflow has nothing else of the run to compare")
    assert "test losses" not in what_is_same(rows)


def test_a_file_of_the_model_that_differs_is_named(tracked: Project) -> None:
    model = tracked.root / "models/tinyllm"
    card = model / "README.md"
    text = card.read_text()
    card.unlink()  # a link into the cache
    card.write_text(f"{text}\nMore.\n")
    (model / CHECKSUMS).unlink()
    seal(model)
    by_name = {row.name: row for row in compare(only_run(tracked), tracked.root)}
    assert by_name["weights"].same
    assert by_name["model folder"].verdict == "differs: README.md"


def with_weights(project: Project) -> Recorded:
    """The run, as if it had trained other weights."""
    from mlflow import MlflowClient

    run = only_run(project)
    MlflowClient().set_tag(run.run_id, MODEL_TAG, "0" * 64)
    return by_id(run.run_id)


def test_the_number_of_threads_is_the_runs(tracked: Project) -> None:
    hardware = load_params(tracked.root / "params.yaml").hardware.model_dump() | {"threads": None}
    params = load_params(tracked.root / "params.yaml")
    train, here = params.train.model_dump(), choose(params.hardware)
    wanted = {"device": "cpu", "precision": here.precision, "threads": "37"}
    assert pinned(hardware, train, wanted) == hardware | {"threads": 37}
    assert pinned(hardware | {"threads": 2}, train, wanted) == hardware | {"threads": 2}
    assert pinned(hardware, train, {"device": "cuda"} | wanted)["device"] == "cpu"


def test_a_long_training_is_compiled_if_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "obstacle", lambda _: None)
    monkeypatch.setattr(compute, "cpp_compiler_version", lambda: "g++ 12.2")
    monkeypatch.setattr("sys.platform", "linux")
    params = load_params(ROOT / "params.yaml")
    hardware = params.hardware.model_dump() | {"device": "cpu", "compile": "auto", "threads": 2}
    short = params.train.model_dump()
    long = short | {"max_steps": 1_000_000_000}
    for train, chosen in ((short, "False"), (long, "True")):
        assert pinned(hardware, train, {"compiled": chosen}) == hardware
    assert pinned(hardware, long, {"compiled": "False"})["compile"] is False
    assert pinned(hardware, short, {"compiled": "True"})["compile"] is True


def test_other_machines_and_versions_are_named(tracked: Project) -> None:
    run = only_run(tracked)
    params = load_params(tracked.root / "params.yaml")
    here = choose(params.hardware)
    assert differences(run, here, tracked.root) == []
    then = run.environment
    then["packages"] |= {"tiktoken": "0.0.1", "torch": "9.9"}
    with_file(tracked, run_files.ENVIRONMENT, then | {"python": "3.9.0"})
    changed = by_id(run.run_id)
    changed.entry.data.params["resolved.torch_version"] = "9.9"
    lines = differences(changed, here, tracked.root)
    assert lines[0].startswith("torch: 9.9, here ")
    assert lines[1].startswith("python: 3.9.0, here ")
    assert lines[2].startswith("packages: tiktoken 0.0.1, here ")
    assert len(lines) == 3


def test_a_run_without_a_model_is_reported_by_the_command(tracked: Project) -> None:
    from mlflow import MlflowClient

    run = only_run(tracked)
    MlflowClient().delete_tag(run.run_id, MODEL_TAG)
    done = tracked.run("python", "-m", "tinyllm", "reproduce", run.run_id[:7], check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "it has no model to compare with; its status is FINISHED" in line
    assert [path.name for path in tracked.root.parent.iterdir()] == ["project"]


@pytest.mark.slow
def test_a_queued_experiment_of_a_dirty_tree_is_reproduced(tracked: Project) -> None:
    """Its code, settings and vocabulary are other ones than the project's now."""
    network = tracked.root / "tinyllm/models/model.py"
    code = network.read_text()
    assert "std=1.0," in code
    network.write_text(code.replace("std=1.0,", "std=0.5,"))
    changes = ("-S", "train.learning_rate=0.02", "-S", "tokenize.vocab_size=280")
    tracked.dvc("exp", "run", "--queue", "--name", "queued", *changes)
    tracked.dvc("queue", "start")
    while "Running" in (status := tracked.dvc("queue", "status").stdout) or "Queued" in status:
        pass
    tracked.run("git", "checkout", ".")
    before = tracked.outputs()
    runs = tracked.runs()

    done = tracked.run("python", "-m", "tinyllm", "reproduce", "queued")
    assert "identical: every file of the model and every test loss" in done.stdout
    assert stages_run(done.stdout)[-2:] == ["train", "evaluate"]
    assert "step 0/6" in done.stdout
    assert tracked.outputs() | before == tracked.outputs()
    (new,) = [run for run in tracked.runs() if run.info.run_id not in {r.info.run_id for r in runs}]
    (old,) = [run for run in runs if run.data.tags.get("dvc.experiment") == "queued"]
    assert new.data.tags["tinyllm.reproduces"] == old.info.run_id
    assert new.data.tags["tinyllm.reproduced_identically"] == "true"
    assert new.data.metrics["test/loss"] == old.data.metrics["test/loss"]
    assert {path.name for path in tracked.root.parent.glob("project*")} == {"project"}
