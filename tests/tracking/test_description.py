"""An experiment in MLflow describes itself, unless somebody has described it."""

import pytest

from tests.tracking.helpers import EXPERIMENT, header, record, settings
from tinyllm.tracking.journal import Journal
from tinyllm.tracking.mlflow.runs import NOTE_TAG
from tinyllm.tracking.outbox import sync


def send(name: str) -> str:
    """Send a run. Returns the description of its experiment."""
    from mlflow import MlflowClient

    with Journal(header(name=name), settings()) as journal:
        record(journal, range(3))
    assert sync(0) == 0
    experiment = MlflowClient().get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return str(experiment.tags[NOTE_TAG])


@pytest.mark.usefixtures("project", "no_follower")
def test_an_experiment_describes_itself() -> None:
    from mlflow import MlflowClient

    client = MlflowClient()
    client.create_experiment("another")  # so that the number is not the usual one
    number = client.create_experiment(EXPERIMENT)
    line = send("first").splitlines()[0]  # MLflow shows this line
    assert "Lower `test/bits_per_byte` is better" in line
    assert f"[Runs](#/experiments/{number}/runs?workflowType=machine_learning)" in line
    client.set_experiment_tag(number, NOTE_TAG, "Ours.")
    assert send("second") == "Ours."
    client.set_experiment_tag(number, NOTE_TAG, "")  # deleted on the page
    assert send("third") == ""
