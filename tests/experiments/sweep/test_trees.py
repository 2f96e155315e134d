"""A trial's tree has the project's files as they were, and its experiment finds the way back."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.sweep.trees import SUMMARY, Trees

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.com")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(params=["", "project"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A project with a commit and a change, at the top of a repository or in a folder of it."""
    root = tmp_path / "repository" / request.param
    (root / ".dvc").mkdir(parents=True)
    (root / "tinyllm").mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    git(tmp_path / "repository", "init", "--quiet")
    (root / "tinyllm" / "code.py").write_text("committed = 1\n")
    (root / ".dvc" / "config").write_text("")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "begin")
    (root / "tinyllm" / "code.py").write_text("changed = 1\n")
    return root


def test_making_a_tree_changes_nothing_in_the_project(project: Path, tmp_path: Path) -> None:
    before = git(project, "status", "--porcelain"), git(project, "stash", "list")
    trees = Trees(project, tmp_path / "trees")
    head, files = trees.snapshot("one")
    (project / "tinyllm" / "code.py").write_text("changed_later = 1\n")
    tree = trees.make("one-001", head, files, str(tmp_path / "a cache"))
    assert (tree / "tinyllm" / "code.py").read_text() == "changed = 1\n"
    assert git(tree, "rev-parse", "HEAD") == git(project, "rev-parse", "HEAD")
    assert git(tree, "diff", "--name-only", "HEAD").endswith("tinyllm/code.py")
    assert (git(project, "status", "--porcelain"), git(project, "stash", "list")) == before
    assert (project / "tinyllm" / "code.py").read_text() == "changed_later = 1\n"


def test_dvc_finds_the_cache_of_the_project(project: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    git(project, "checkout", "--quiet", ".")
    trees = Trees(project, tmp_path / "trees")
    cache = tmp_path / "a cache, with 'quotes'"
    tree = trees.make("one-001", *trees.snapshot("one"), str(cache))
    with Repo(str(tree)) as repo:
        assert Path(repo.cache.local_cache_dir) == cache


def test_an_experiment_is_fetched_with_its_score(project: Path, tmp_path: Path) -> None:
    trees = Trees(project, tmp_path / "trees")
    head, files = trees.snapshot("one")
    tree = trees.make("one-001", head, files, "cache")
    assert not trees.fetch("one-001", head)  # it is not complete
    summary = tree / places_of("train", project)["reports"] / SUMMARY
    summary.parent.mkdir(parents=True)
    summary.write_text(json.dumps({"val": {"bits_per_byte": 1.25}}))
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "experiment")
    git(tree, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/one-001", "HEAD")
    assert trees.score("one-001", head, "val.bits_per_byte") is None
    assert trees.fetch("one-001", head)
    shutil.rmtree(tree)
    assert trees.score("one-001", head, "val.bits_per_byte") == 1.25
    assert trees.taken("one")
    assert not trees.taken("on")


def test_what_no_trial_would_see_is_named(project: Path, tmp_path: Path) -> None:
    trees = Trees(project, tmp_path / "trees")
    assert trees.unseen() == []
    (project / "tinyllm" / "new.py").write_text("")
    (project / "corpus").mkdir()
    (project / "corpus" / "text.txt").write_text("text")  # the default corpus does not read it
    assert trees.unseen() == ["tinyllm/new.py"]
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("source: docstrings", "source: path"))
    assert trees.unseen() == ["corpus/text.txt", "tinyllm/new.py"]


def test_a_shallow_clone_runs_trials_too(project: Path, tmp_path: Path) -> None:
    git(project, "commit", "--quiet", "--all", "--message", "second")
    top = git(project, "rev-parse", "--show-toplevel")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth", "1", Path(top).as_uri(), str(shallow))
    root = shallow / project.relative_to(top)
    trees = Trees(root, tmp_path / "trees")
    head, files = trees.snapshot("one")
    tree = trees.make("one-001", head, files, "cache")
    git(tree, "commit", "--quiet", "--allow-empty", "--message", "experiment")
    git(tree, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/one-001", "HEAD")
    assert trees.fetch("one-001", head)
