"""A model or a registration that a server refuses holds up nothing, and arrives later, once."""

import pytest

from tests.serving.evaluations import Evaluations, logged_models
from tests.tracking.proxy import Proxy, Rule
from tests.tracking.test_refusals import run_of
from tinyllm.tracking.outbox import sync


def registered(name: str) -> list[str]:
    """The versions of a registered model."""
    from mlflow import MlflowClient

    found = MlflowClient().search_model_versions(f"name = '{name}'")
    return [str(version.version) for version in found]


def of_experiment(experiment: str) -> list[str]:
    """The status of each model of an experiment."""
    run = run_of(experiment)
    return [
        str(model.status)
        for model in logged_models()
        if model.experiment_id == run.info.experiment_id
    ]


def test_a_refused_model_is_completed_later_and_registered_then(
    proxy: Proxy, evaluations: Evaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.rules = [Rule(413, r"mlflow-artifacts.*models/.*model\.safetensors")]
    evaluations.record(experiment="refused model", register_as="a")
    assert sync(0) == 1
    run = run_of("refused model")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/loss"] > 0
    assert of_experiment("refused model") == ["PENDING"]
    assert registered("a") == []
    assert "the MLflow model 'model'" in capsys.readouterr().out

    proxy.rules = []
    assert sync(0, everything=True) == 0
    assert of_experiment("refused model") == ["READY"]
    assert registered("a") == ["1"]


def test_a_refused_registration_does_not_hold_up_the_model(
    proxy: Proxy, evaluations: Evaluations
) -> None:
    proxy.rules = [Rule(403, "model-versions/create")]
    evaluations.record(experiment="refused version", register_as="b")
    assert sync(0) == 1
    assert of_experiment("refused version") == ["READY"]
    assert registered("b") == []

    proxy.rules = []
    assert sync(0, everything=True) == 0
    assert of_experiment("refused version") == ["READY"]
    assert registered("b") == ["1"]
