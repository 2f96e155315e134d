"""The champion is the model that is better on the same test data by more than chance."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.evaluations import Evaluations, better_by, logged_models, usual_losses
from tests.tracking.helpers import Project, free_port
from tinyllm.tracking.outbox import sync

NAME = "tiny"


def versions() -> dict[str, Any]:
    """The versions of the registered model, by number."""
    from mlflow import MlflowClient

    found = MlflowClient().search_model_versions(f"name = '{NAME}'")
    return {str(version.version): version for version in found}


def champion() -> str:
    from mlflow import MlflowClient

    return str(MlflowClient().get_registered_model(NAME).aliases["champion"])


@pytest.fixture
def first(evaluations: Evaluations) -> Evaluations:
    """A champion with the usual losses."""
    evaluations.record(register_as=NAME)
    assert sync(0) == 0
    assert champion() == "1"
    return evaluations


def test_a_model_is_registered_only_if_the_setting_names_it(evaluations: Evaluations) -> None:
    evaluations.record()
    assert sync(0) == 0
    assert len(logged_models()) == 1
    assert versions() == {}


def test_the_first_version_is_the_champion(
    evaluations: Evaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluations.record(register_as=NAME)
    assert sync(0) == 0
    assert (
        "registered as tiny version 1; champion: there was none before" in capsys.readouterr().out
    )
    version = versions()["1"]
    (model,) = logged_models()
    assert version.source == f"models:/{model.model_id}"
    assert version.run_id == model.source_run_id
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": 1}]
    assert "bits per byte on the test split" in version.description


def test_a_better_model_becomes_the_champion(first: Evaluations) -> None:
    first.record(2, better_by(0.05), register_as=NAME)
    assert sync(0) == 0
    assert champion() == "2"
    reason = versions()["2"].tags["champion"]
    found = re.fullmatch(
        r"champion: better than version 1 by (\S+) bits per byte \(95 % interval (\S+) to (\S+)\)",
        reason,
    )
    assert found, reason
    difference, low, high = map(float, found.groups())
    assert difference == pytest.approx(0.05 / np.log(2) / 3, abs=1e-4)  # 3 bytes a token
    assert low < difference < high


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (
            better_by(0.001, spread=1.0),
            r"\S+ bits per byte better than version 1, \w+ may be chance",
        ),
        (
            better_by(-0.001, spread=1.0),
            r"\S+ bits per byte worse than version 1, \w+ may be chance",
        ),
        (better_by(-0.05), r"version 1 is better by \S+ bits per byte"),
        (usual_losses(), "0.0000 bits per byte worse than version 1, which may be chance"),
    ],
    ids=["better by chance", "worse by chance", "worse", "the same"],
)
def test_another_model_does_not(
    first: Evaluations, losses: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first.record(2, losses, register_as=NAME)
    assert sync(0) == 0
    assert champion() == "1"
    version = versions()["2"]
    assert re.match(f"not the champion: {reason}", version.tags["champion"])
    assert version.tags["champion"] in version.description
    line = f"registered as tiny version 2; {version.tags['champion']}"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": "other"}, "version 1 was scored on other test data"),
        ({"stride": 16}, "version 1 was scored with other settings"),
    ],
    ids=["data", "settings"],
)
def test_scores_that_do_not_compare_leave_the_champion(
    first: Evaluations, changes: dict[str, Any], reason: str
) -> None:
    first.record(2, better_by(0.5), register_as=NAME, **changes)
    assert sync(0) == 0
    assert champion() == "1"
    assert reason in versions()["2"].tags["champion"]


@pytest.mark.parametrize("how", ["missing", "corrupt"])
def test_losses_that_were_lost_leave_the_champion(
    first: Evaluations, artifacts: Path, how: str
) -> None:
    (losses,) = artifacts.rglob("losses.npy")
    if how == "missing":
        losses.unlink()
    else:
        np.save(losses, usual_losses() + 1)  # so that any model is better
    first.record(2, better_by(0.05), register_as=NAME)
    assert sync(0) == 0
    assert champion() == "1"
    assert "can't be compared with version 1" in versions()["2"].tags["champion"]


def test_a_journal_sent_again_changes_no_decision(
    project: Project, evaluations: Evaluations
) -> None:
    folder = evaluations.record(register_as=NAME)
    shutil.copytree(folder, kept := project.root / "kept")
    assert sync(0) == 0
    evaluations.record(2, better_by(0.05), register_as=NAME)
    assert sync(0) == 0
    shutil.rmtree(project.root / ".tinyllm" / "sent")
    shutil.copytree(kept, folder)
    assert sync(0) == 0
    assert champion() == "2"
    assert versions().keys() == {"1", "2"}


def test_an_alias_that_the_user_moved_is_the_champion(first: Evaluations) -> None:
    from mlflow import MlflowClient

    first.record(2, better_by(-0.05), register_as=NAME)
    assert sync(0) == 0
    MlflowClient().set_registered_model_alias(NAME, "champion", "2")
    first.record(3, usual_losses(), register_as=NAME)
    assert sync(0) == 0
    assert champion() == "3"
    assert "better than version 2" in versions()["3"].tags["champion"]


def test_an_outage_delays_the_registration(
    evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as outage:
        outage.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
        outage.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        evaluations.record(register_as=NAME)
        assert sync(0) == 1
    capsys.readouterr()
    assert sync(0, everything=True) == 0  # as in `tinyllm sync`
    assert champion() == "1"
    assert "registered as tiny version 1" in capsys.readouterr().out


def test_the_stage_prints_the_decision(
    project: Project, evaluations: Evaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluations.record(register_as=NAME, live=True)  # a follower sends it
    project.wait_until_sent()
    line = "MLflow: registered as tiny version 1; champion: there was none before\n"
    errors = capsys.readouterr().err
    assert line in errors or "in the background" in errors  # on a busy machine
    assert champion() == "1"
