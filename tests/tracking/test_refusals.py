"""An item that MLflow refuses never delays the rest, and is never lost.

The server is real; the refusals are its own, or those of a proxy in front of it.
"""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import random_model
from tests.tracking.helpers import (
    ALL_POINTS,
    Project,
    header,
    record,
    settings,
)
from tests.tracking.proxy import RESET, Proxy, Rule
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.folder import WEIGHTS, save_model
from tinyllm.tracking.journal import Journal
from tinyllm.tracking.outbox import Delivery, sync

pytestmark = pytest.mark.usefixtures("no_follower", "proxy")

WEIGHTS_PATH = rf"mlflow-artifacts.*({WEIGHTS}|state_dict\.pth)"
LOG_BATCH = "runs/log-batch"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A model folder."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(folder, random_model(), tokenizer)
    return folder


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    """An experiment for each test."""
    return str(request.node.name)


def train(experiment: str, model: Path | None = None, **fields: Any) -> Path:
    """The journal of a training."""
    with Journal(header(**fields), settings(experiment=experiment)) as journal:
        record(journal, range(30))
        if model is not None:
            journal.file(model, "model")
            journal.tags({"tinyllm.model_sha256": "abc"})
        journal.content("notes.txt", b"text")
    return journal.folder


def evaluate(experiment: str) -> Path:
    """The journal of an evaluation of that model."""
    what = header("evaluate", model_sha256="abc", params={"evaluate.stride": 8})
    with Journal(what, settings(experiment=experiment)) as journal:
        journal.metrics(0, {"test/loss": 1.5})
    return journal.folder


def run_of(experiment: str) -> Any:
    """The one run of an experiment."""
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run


def points(run: Any) -> list[tuple[str, int]]:
    """(metric, step) of every point of a run on the server, sorted."""
    from mlflow import MlflowClient

    histories = [MlflowClient().get_metric_history(run.info.run_id, n) for n in run.data.metrics]
    return sorted((point.key, point.step) for history in histories for point in history)


def artifacts(run: Any, folder: str | None = None) -> set[str]:
    from mlflow import MlflowClient

    found = MlflowClient().list_artifacts(run.info.run_id, folder)
    files = {each.path for each in found if not each.is_dir}
    return files.union(*(artifacts(run, each.path) for each in found if each.is_dir))


@pytest.mark.slow
def test_refused_weights_arrive_later_and_the_rest_at_once(
    proxy: Proxy, model: Path, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.rules = [Rule(413, WEIGHTS_PATH)]
    trained, evaluated = train(experiment, model), evaluate(experiment)
    capsys.readouterr()
    assert sync(0) == 1
    run = run_of(experiment)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/loss"] == 1.5
    assert run.data.tags["tinyllm.evaluate"] == "FINISHED"
    assert set(points(run)) == {*ALL_POINTS, ("test/loss", 0)}
    assert artifacts(run) >= {"notes.txt", "model/config.json", "model/tokenizer.json"}
    assert trained.exists() and not evaluated.exists()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if WEIGHTS in line]
    assert "kept" in line and "<" not in line
    assert len(proxy.refused) == 2  # each of the two forms of the weights, once
    assert sync(0) == 1  # as at the end of the next stages
    assert len(proxy.refused) == 2
    for tried, another in enumerate((403, 504, 500, 400, RESET), 2):
        proxy.rules = [Rule(another, WEIGHTS_PATH)]
        assert sync(0, everything=True) == 1  # as in `tinyllm sync`
        assert len(proxy.refused) == 2 * tried

    proxy.rules = []
    assert sync(0, everything=True) == 0
    run = run_of(experiment)
    assert run.info.status == "FINISHED"
    assert artifacts(run) >= {f"model/{WEIGHTS}", "state_dict/state_dict.pth"}
    assert not trained.exists()


def test_a_refused_item_is_retried_when_due(
    proxy: Proxy, model: Path, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyllm.tracking.mlflow.refusals.FIRST_WAIT", 0.0)
    proxy.rules = [Rule(413, WEIGHTS_PATH)]
    train(experiment, model)
    assert sync(0) == 1
    proxy.rules = []
    assert sync(0) == 0
    assert artifacts(run_of(experiment)) >= {f"model/{WEIGHTS}"}


@pytest.mark.slow
def test_a_refused_value_does_not_block_others(
    proxy: Proxy, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.rules = [Rule(500, LOG_BATCH, body) for body in (b"poison", b"arsenic")]
    params = {f"p{i}": "poison" if i == 77 else i for i in range(110)}
    with Journal(
        header(params=params, tags={"a": "arsenic", "b": "bread"}), settings(experiment=experiment)
    ) as journal:
        record(journal, range(15))
        journal.metrics(3, {"train/poison": 1.0, "train/grad_norm": 2.0})
        record(journal, range(15, 30))
    assert sync(0) == 1
    run = run_of(experiment)
    assert run.info.status == "FINISHED"
    assert set(points(run)) == {*ALL_POINTS, ("train/grad_norm", 3)}
    assert run.data.params == {k: str(v) for k, v in params.items() if k != "p77"}
    assert run.data.tags["b"] == "bread" and "a" not in run.data.tags
    printed = capsys.readouterr().out
    assert [printed.count(name) for name in ("p77", "tag a", "train/poison")] == [1, 1, 1]

    proxy.rules = []
    assert sync(0, everything=True) == 0
    run = run_of(experiment)
    assert run.data.params["p77"] == "poison" and run.data.tags["a"] == "arsenic"
    assert ("train/poison", 3) in points(run)


def test_values_that_no_store_accepts_are_escaped_or_cut(
    proxy: Proxy, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.rules = [Rule(500, LOG_BATCH, rb"\u0000"), Rule(500, "runs/create", rb"\u0000")]
    params = {"prompts": ["a\0b"], "nul": "a\0b", "lone": "\udcff", "long": "x\0" * 9000, "ä$": 1}
    with Journal(
        header(name="a\0b", params=params, tags={"t\0": "\0"}, note="\0" * 9000),
        settings(experiment=experiment),
    ) as journal:
        journal.metrics(0, {"loss (nats)/µ": 1.0, "b/inf": math.inf, "b/nan": math.nan})
        journal.metrics(1, {"b/inf": -math.inf})
        journal.metrics(2, {"x" * 300: 1.0, "big": 1e308, "count": 10**30})
    assert sync(0) == 0
    run = run_of(experiment)
    assert proxy.refused == []
    assert run.info.run_name == "a\\x00b"
    assert run.data.params["nul"] == "a\\x00b"
    assert run.data.params["prompts"] == "['a\\x00b']"
    assert run.data.params["lone"] == "\\udcff"
    assert len(run.data.params["long"]) == 6000
    assert run.data.params["ä_"] == "1"
    assert run.data.tags["t_"] == "\\x00"
    assert len(run.data.tags["mlflow.note.content"]) == 8000
    assert {"loss _nats_/µ", "b/inf", "b/nan", "x" * 250, "big", "count"} == set(run.data.metrics)
    printed = capsys.readouterr().out
    assert [printed.count(f" {name}: ") for name in ("nul", "lone", "long")] == [1, 1, 1]


@pytest.mark.parametrize("when", ["before", "while it is sent"])
def test_a_deleted_experiment_is_named_and_receives_all_once_restored(
    experiment: str, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient()
    with Journal(header(), settings(experiment=experiment)) as journal:
        record(journal, range(10))
        delivery = Delivery(journal.folder)
        if when == "before":
            number = client.create_experiment(experiment)
        else:
            assert not delivery.attempt()
            found = client.get_experiment_by_name(experiment)
            assert found is not None
            number = found.experiment_id
        client.delete_experiment(number)
        record(journal, range(10, 30))
        assert not delivery.attempt()
    train(f"another than {experiment}")
    assert sync(0) == 1  # the other one is sent
    assert run_of(f"another than {experiment}").info.status == "FINISHED"
    printed = capsys.readouterr().out
    assert f"{experiment!r} was deleted" in printed
    assert f"mlflow experiments restore --experiment-id {number}" in printed
    assert "runtime.experiment" in printed
    client.restore_experiment(number)
    assert sync(0) == 0
    assert points(run_of(experiment)) == ALL_POINTS


def test_missing_or_corrupt_files_do_not_block_others(
    model: Path, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = train(experiment, model) / "files"
    (kept / "model" / "config.json").unlink()
    weights = kept / "model" / WEIGHTS
    weights.unlink()  # it may be a link to the model's file
    weights.write_bytes(b"rubbish")
    assert sync(0) == 0
    assert artifacts(run_of(experiment)) >= {"notes.txt", "model/tokenizer.json"}
    printed = capsys.readouterr().out
    assert printed.count("model/config.json: the file is missing") == 1
    assert printed.count("as state_dict: the model folder is corrupt") == 1


@pytest.mark.parametrize("content", ["null", "{"])
def test_a_corrupt_position_sends_everything_again(experiment: str, content: str) -> None:
    folder = train(experiment)
    (folder / "sent.json").write_text(content)
    assert sync(0) == 0
    assert points(run_of(experiment)) == ALL_POINTS


def test_an_expired_login_is_reported_and_nothing_is_lost(
    proxy: Proxy, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(experiment)
    proxy.rules = [Rule(401, "")]
    assert sync(0) == 1
    assert "MLFLOW_TRACKING_TOKEN" in capsys.readouterr().out
    proxy.rules = []
    assert sync(0) == 0
    assert points(run_of(experiment)) == ALL_POINTS


def test_an_invalid_experiment_name_is_escaped(proxy: Proxy, experiment: str) -> None:
    proxy.rules = [Rule(500, "experiments", rb"\u0000"), Rule(500, "experiments", b"%00")]
    train(f"{experiment}\0" + "x" * 600)
    assert sync(0) == 0
    assert points(run_of(f"{experiment}\\x00{'x' * 600}"[:500])) == ALL_POINTS


def test_a_latin_1_terminal_works_with_a_server(project: Project, experiment: str) -> None:
    train(experiment, name="你好")
    done = project.sync(PYTHONIOENCODING="latin-1", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "View run" not in done.stdout
    assert run_of(experiment).info.status == "FINISHED"
