"""What MLflow's page shows of the runs, in a real browser."""

import os
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
    shown = [tab.page.get_by_role("link", name=name, exact=True).first for name in RUNS]
    tops = {name: link.bounding_box()["y"] for name, link in zip(RUNS, shown, strict=True)}
    return sorted(tops, key=lambda name: tops[name])


def test_the_pages_of_an_experiment(address: str, tab: Tab, tmp_path: Path) -> None:
    """Opened as a user does: at the address that `tinyllm ui` prints, and by the links there."""
    number = address.partition("experiments/")[2].partition("/")[0]
    tab.open(address, shows=BEST)
    tab.close_extras()
    assert names(tab) == [*RUNS][::-1]  # the latest first
    tab.wait_for("Lower")

    tab.page.get_by_role("link", name="Best first").click()
    tab.page.wait_for_url("**orderByAsc=true**")
    tab.wait_for(BEST)
    tab.page.wait_for_function(
        "name => document.querySelector('.ag-center-cols-container, [role=grid]')"
        "?.innerText.trim().startsWith(name) ?? true",
        arg=BEST,
    )
    assert names(tab) == sorted(RUNS, key=lambda name: RUNS[name])

    tab.page.get_by_role("link", name="Charts").first.click()
    tab.wait_for("bits_per_byte (")
    groups = ["best (2)", "bits_per_byte (2)", "loss (3)"]
    tops = [tab.page.get_by_text(group).first.bounding_box()["y"] for group in groups]
    assert tops == sorted(tops)

    # The page that MLflow opens for an experiment without further words.
    tab.open(f"{address.partition('#')[0]}#/experiments/{number}", shows="Lower")
    tab.close_extras()
    tab.page.get_by_role("link", name="Runs", exact=True).last.click()
    tab.wait_for(BEST)

    take(tab, address, tmp_path / "pictures", BEST)
    assert len(list((tmp_path / "pictures").iterdir())) == 5
    tags = tab.page.content()
    assert "mlflow.tinyllm" not in tags
    assert tab.foreign == []
    assert tab.errors == []
    if kept := os.environ.get("TINYLLM_PICTURES"):
        shutil.copytree(tmp_path / "pictures", kept, dirs_exist_ok=True)
