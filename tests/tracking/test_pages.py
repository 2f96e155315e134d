"""What MLflow's page shows of the runs, in a real browser."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.screenshots import Tab, browser, take, ui
from tests.helpers import ROOT
from tests.tracking.helpers import Project, free_port, header, settings
from tests.tracking.test_watch import ORIGIN
from tinyllm.experiments.run_name import run_name
from tinyllm.tracking.journal import Journal
from tinyllm.tracking.outbox import sync
from tinyllm.training.display.record import Record
from tinyllm.training.history import TRAIN, VALIDATION

pytestmark = pytest.mark.ecosystem

# The test score of each run, by what is special about it.
RUNS = {
    run_name({}, False, "params.yaml at 1234567", None): 1.3,
    run_name({"train.n_layer": "6"}, False, "", "runny-chic"): 1.2,
    run_name({"train.learning_rate": "0.1"}, True, "", "blest-maul"): 1.4,
}
BEST = "n_layer=6 (runny-chic)"


@pytest.fixture
def runs(project: Project, no_follower: None) -> Project:
    """A project with three runs in an experiment that is not MLflow's first."""
    assert no_follower is None
    shutil.copyfile(ROOT / "params.yaml", project.root / "params.yaml")
    for name, score in RUNS.items():
        section = settings(experiment="tinyllm")
        with Journal(header(name=name, tags={"git.dirty": "false"}), section) as journal:
            record = Record(journal, ORIGIN)
            for step in range(20):
                record.step(step, {"loss": 3 / (step + 1), "learning_rate": 0.1, "grad_norm": 1.0})
            scores = {"loss": 3.0, "bits_per_byte": score, "accuracy": 0.5, "perplexity": 20.0}
            record.evaluation(20, {TRAIN: scores, VALIDATION: scores})
            journal.metrics(0, {f"best/{key}": scores[key] for key in ("loss", "bits_per_byte")})
            journal.metrics(0, {"test/loss": 3.0, "test/bits_per_byte": score})
            journal.metrics(0, {"test_baselines/zlib_bits_per_byte": 2.3})
    assert sync(0) == 0
    return project


@pytest.fixture
def address(runs: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.undo()  # of the interpreter's name
    world = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{runs.root}/mlflow.db"}
    with ui(runs.root, free_port(), **world) as address:
        yield address


@pytest.fixture
def tab() -> Iterator[Tab]:
    with browser() as tab:
        yield tab


def names(tab: Tab) -> list[str]:
    """The runs on the page, from top to bottom."""
    tops = {name: top(tab, name) for name in RUNS}
    return sorted(tops, key=lambda name: tops[name])


def top(tab: Tab, text: str) -> float:
    """How far below the top of the page a text is."""
    return float(tab.page.get_by_text(text, exact=True).first.bounding_box()["y"])


def test_the_pages_of_an_experiment(address: str, tab: Tab, tmp_path: Path) -> None:
    """Opened as a user does: at the address that `tinyllm ui` prints, and by the links there."""
    tab.open(address, shows=BEST)
    tab.close_extras()
    assert names(tab) == [*RUNS][::-1]  # the latest first
    tab.wait_for("Lower test/bits_per_byte is better")
    best, charts = tab.follow("Best first"), tab.follow("Charts")
    tab.open(best, shows=BEST)
    assert names(tab) == sorted(RUNS, key=lambda name: RUNS[name])

    tab.open(charts, shows="best/bits_per_byte")
    groups = re.findall(r"^(\w+)\s*\(\d+\)$", tab.page.inner_text("body"), re.MULTILINE)
    assert groups[:4] == ["best", "bits_per_byte", "loss", "test"]

    # The page that MLflow opens for an experiment if nothing is said.
    tab.open(address.partition("/runs")[0], shows="Lower test/bits_per_byte is better")
    assert "workflowType=genai" in tab.page.url
    tab.close_extras()
    tab.open(tab.follow("Runs"), shows=BEST)

    take(tab, address, tmp_path / "pictures", BEST)
    assert len(list((tmp_path / "pictures").iterdir())) == 5
    assert tab.foreign == []
    assert tab.errors == []
    if kept := os.environ.get("TINYLLM_PICTURES"):
        shutil.copytree(tmp_path / "pictures", kept, dirs_exist_ok=True)


def test_a_run_shows_the_tags_that_its_readers_can_use(address: str, tab: Tab) -> None:
    tab.open(address, shows=BEST)
    tab.page.get_by_text(BEST).first.click()
    tab.wait_for("git.dirty")
    assert "tinyllm.journal" not in tab.page.inner_text("body")
