"""Everything in a journal is in MLflow once, in the right run, after any number of sends."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch

from tests.helpers import random_model
from tests.tracking.helpers import (
    ALL_POINTS,
    EXPERIMENT,
    STEPS,
    Project,
    header,
    record,
    settings,
)
from tinyllm.common.files import sha256_of
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models.folder import WEIGHTS, save_model
from tinyllm.tracking import outbox
from tinyllm.tracking.folders import JOURNAL
from tinyllm.tracking.journal import Header, Journal
from tinyllm.tracking.mlflow.environment import set_up_mlflow
from tinyllm.tracking.mlflow.runs import JOURNAL_TAG
from tinyllm.tracking.outbox import Delivery, sync

pytestmark = pytest.mark.usefixtures("no_follower")

MODEL = "tinyllm.model_sha256"


def journal_of(what: Header, *, scores: dict[str, float] | None = None, model: str = "") -> Path:
    """A stage's journal that has not been sent."""
    with Journal(what, settings()) as journal:
        record(journal, range(0 if scores else STEPS))
        if scores:
            journal.metrics(0, scores)
        if model:
            journal.tags({MODEL: model})
    return journal.folder


def evaluation(model: str, **params: str) -> Path:
    """An evaluation's journal."""
    what = header("evaluate", params=params, model_sha256=model)
    return journal_of(what, scores={"test/loss": 1.5})


def test_a_journal_sent_twice_is_stored_once(project: Project) -> None:
    dataset = {"name": "d", "digest": "0" * 32, "source": "x", "role": "training", "profile": {}}
    folder = journal_of(header(datasets=[dataset], params={"a": 1}))
    shutil.copytree(folder, kept := project.root / "kept")
    assert sync(0) == 0
    for _ in range(2):
        shutil.rmtree(project.root / ".tinyllm" / "sent")
        shutil.copytree(kept, folder)  # as if it had never been sent
        assert sync(0) == 0
    (run,) = project.runs().values()
    assert project.points(run) == ALL_POINTS
    assert len(run.inputs.dataset_inputs) == 1
    with closing(sqlite3.connect(project.root / "mlflow.db")) as database:
        count = database.execute("SELECT count(*), sum(is_nan) FROM metrics").fetchone()
    assert count == (len(ALL_POINTS), 1)  # including NaN, inf and -inf


def test_a_sender_continues_where_the_last_one_stopped(project: Project) -> None:
    with Journal(header(), settings()) as journal:
        record(journal, range(10))
        assert not Delivery(journal.folder).attempt()  # the stage is running
        sent = json.loads((journal.folder / "sent.json").read_text())
        file = journal.folder / JOURNAL
        assert sent["position"] == file.stat().st_size
        # A sender that reads this part again would send something else.
        file.write_bytes(file.read_bytes().replace(b'"step": 3,', b'"step": 8,'))
        record(journal, range(10, STEPS))
    assert sync(0) == 0
    assert project.statuses() == {"train": "FINISHED"}
    assert project.points(project.runs()["train"]) == ALL_POINTS


def test_another_store_receives_everything(
    project: Project, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> None:
    with Journal(header(), settings()) as journal:
        record(journal, range(10))
        Delivery(journal.folder).attempt()
        record(journal, range(10, STEPS))
    other = project.root / "other"
    other.mkdir()
    shutil.copyfile(empty_database, other / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other / 'mlflow.db'}")
    assert sync(0) == 0
    there = Project(other)
    assert there.points(there.runs()["train"]) == ALL_POINTS


def test_values_too_long_for_mlflow_are_cut(project: Project) -> None:
    params = {**{f"p{i}": i for i in range(250)}, "long": "x" * 9000, "none": None, "odd": "\udcff"}
    folder = journal_of(header(params=params, tags={"long": "y" * 9000}, note="z" * 9000))
    assert sync(0) == 0
    (run,) = project.runs().values()
    assert len(run.data.params) == 253
    assert run.data.params["p249"] == "249"
    assert run.data.params["long"] == "x" * 6000
    assert run.data.params["odd"] == "\\udcff"
    assert run.data.tags["long"] == "y" * 8000
    assert not folder.exists()


def test_more_metrics_than_one_call_allows(project: Project) -> None:
    with Journal(header(), settings()) as journal:
        for step in range(10):
            journal.metrics(step, {f"many/{i}": float(i) for i in range(300)})
    assert sync(0) == 0
    assert len(set(project.points(project.runs()["train"]))) == 3000


def test_an_incomplete_line_is_sent_once_complete(project: Project) -> None:
    with Journal(header(), settings()) as journal:
        record(journal, range(STEPS - 1))
        line = '{"kind": "metrics", "time": 1, "step": 29, "values": {"loss/batch": 0.1, '
        with (journal.folder / JOURNAL).open("a") as file:
            file.write(line)
        Delivery(journal.folder).attempt()
        assert len(project.points(project.runs()["train"])) == 2 * (STEPS - 1)
        with (journal.folder / JOURNAL).open("a") as file:
            file.write('"val/perplexity": 2.0}}\n')
    assert sync(0) == 0
    assert project.points(project.runs()["train"]) == ALL_POINTS


def test_a_corrupt_line_is_skipped(project: Project) -> None:
    with Journal(header(), settings()) as journal:
        record(journal, range(15))
        with (journal.folder / JOURNAL).open("a") as file:
            file.write('{"kind": "metrics", "st\n')
        record(journal, range(15, STEPS))
    assert sync(0) == 0
    assert project.statuses() == {"train": "FINISHED"}
    assert project.points(project.runs()["train"]) == ALL_POINTS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\0" * 100, "its first line is corrupt"),
        (b'{"kind": "run"}\n', "its first line is corrupt"),
        (b"[]\n", "its first line is corrupt"),
        (None, "Is a directory"),  # can't be opened, like another user's
    ],
)
def test_an_unreadable_journal_does_not_block_others(
    project: Project, capsys: pytest.CaptureFixture[str], content: bytes | None, expected: str
) -> None:
    broken = journal_of(header(name="broken"))
    (broken / JOURNAL).unlink()
    if content is None:
        (broken / JOURNAL).mkdir()
    else:
        (broken / JOURNAL).write_bytes(content)
    journal_of(header(name="whole"))
    evaluation("abc")
    assert sync(0) == 1
    assert expected in capsys.readouterr().out
    assert project.statuses() == {"whole": "FINISHED", "evaluate": "FINISHED"}
    assert project.journals == [broken]


@pytest.mark.parametrize("order", ["train first", "evaluate first"])
def test_an_evaluation_adds_to_the_run_that_trained_the_model(project: Project, order: str) -> None:
    trained = journal_of(header(), model="abc")
    evaluated = evaluation("abc", stride="64")
    if order == "evaluate first":
        assert Delivery(evaluated).attempt()  # it sends the other one first
        assert not trained.exists()
    else:
        assert sync(0) == 0
    (run,) = project.runs().values()
    assert run.info.run_name == "train"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/loss"] == 1.5
    assert run.data.params["stride"] == "64"
    assert run.data.tags["tinyllm.evaluate"] == "FINISHED"


def test_a_failed_evaluation_does_not_change_the_trainings_status(project: Project) -> None:
    journal_of(header(), model="abc")
    with (
        pytest.raises(ValueError, match="too long"),
        Journal(header("evaluate", model_sha256="abc"), settings()),
    ):
        raise ValueError("prompt too long")
    assert sync(0) == 0
    (run,) = project.runs().values()
    assert run.info.status == "FINISHED"
    assert run.data.tags["tinyllm.evaluate"] == "FAILED"
    assert run.data.tags["tinyllm.evaluate.reason"] == "prompt too long"


def test_scores_with_other_settings_are_a_separate_run(project: Project) -> None:
    journal_of(header(), model="abc")
    evaluation("abc", stride="64")
    assert sync(0) == 0
    evaluation("abc", stride="32")
    assert sync(0) == 0
    evaluation("abc", stride="32")  # the same run again
    assert sync(0) == 0
    runs = project.runs()
    assert set(runs) == {"train", "evaluate"}
    assert runs["train"].data.params["stride"] == "64"
    assert runs["evaluate"].data.params["stride"] == "32"
    assert runs["evaluate"].data.tags[MODEL] == "abc"
    assert runs["evaluate"].info.status == "FINISHED"


def test_scores_with_other_settings_name_the_training_and_have_its_settings(
    project: Project,
) -> None:
    journal_of(header(params={"seed": 7, "long": "x" * 9000}), model="abc")
    evaluation("abc", stride="64")
    assert sync(0) == 0
    what = header("evaluate", params={"stride": 32}, model_sha256="abc", note="Test scores")
    folder = journal_of(what, scores={"test/loss": 1.5})
    shutil.copytree(folder, kept := project.root / "kept")
    for _ in range(2):
        assert sync(0) == 0
        runs = project.runs()
        training, scores = runs["train"], runs["evaluate"]
        assert scores.data.params == training.data.params | {"stride": "32"}
        assert scores.data.tags["tinyllm.trained_by"] == training.info.run_id
        assert scores.data.tags["mlflow.note.content"] == (
            "Test scores\n\nThe run that trained it: [train]"
            f"(#/experiments/{training.info.experiment_id}/runs/{training.info.run_id})"
        )
        assert "tinyllm.trained_by" not in training.data.tags
        shutil.rmtree(project.root / ".tinyllm" / "sent")
        shutil.copytree(kept, folder)  # as if it had never been sent


def test_scores_of_a_model_without_a_run_are_a_separate_run(project: Project) -> None:
    for stride in ("64", "32"):  # the first run has the same model, but did not train it
        what = header("evaluate", name=stride, params={"stride": stride}, model_sha256="abc")
        journal_of(what, scores={"test/loss": 1.5})
        assert sync(0) == 0
    for stride, run in project.runs().items():
        assert run.data.params == {"stride": stride}
        assert not {"tinyllm.trained_by", "mlflow.note.content"} & run.data.tags.keys()


@pytest.mark.parametrize(("tags", "chosen"), [({"from": "mine"}, "mine"), ({}, "plain")])
def test_an_evaluation_prefers_the_run_with_its_own_twin_tag(
    project: Project, tags: dict[str, str], chosen: str
) -> None:
    """Several experiments trained the same model; the latest is another one."""
    for name, origin in {"mine": {"from": "mine"}, "plain": {}, "theirs": {"from": "it"}}.items():
        journal_of(header(name=name, tags=origin), model="abc")
    what = header("evaluate", tags=tags, twin_tag="from", model_sha256="abc")
    journal_of(what, scores={"test/loss": 1.5})
    assert sync(0) == 0
    scored = {name for name, run in project.runs().items() if "test/loss" in run.data.metrics}
    assert scored == {chosen}


def test_a_deleted_run_stays_deleted(project: Project) -> None:
    from mlflow import MlflowClient

    with Journal(header(), settings()) as journal:
        record(journal, range(10))
        delivery = Delivery(journal.folder)
        delivery.attempt()
        MlflowClient().delete_run(project.runs()["train"].info.run_id)
        record(journal, range(10, 20))
        delivery.attempt()  # the sender that has found the run
        assert delivery.error == ""
        record(journal, range(20, 30))
    assert sync(0) == 0  # and a new one
    assert project.runs() == {}
    assert project.journals == []


def test_a_run_created_twice_after_a_late_answer_is_merged(project: Project) -> None:
    from mlflow import MlflowClient

    folder = journal_of(header())
    client = MlflowClient()
    experiment = client.create_experiment(EXPERIMENT)
    for _ in range(2):
        client.create_run(experiment, tags={JOURNAL_TAG: folder.name}, run_name="train")
    assert sync(0) == 0
    assert project.statuses() == {"train": "FINISHED"}


@pytest.mark.usefixtures("architecture")
def test_the_model_and_its_state_dict_load_back(project: Project, tokenizer: Tokenizer) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.pytorch import load_state_dict

    model = random_model()
    save_model(project.root / "models" / "tiny", model, tokenizer)
    with Journal(header(), settings()) as journal:
        journal.file(project.root / "models" / "tiny", "model")
        journal.content("changes.patch", b"+ a line")
        (project.root / "models" / "tiny" / "config.json").unlink()  # the journal has a copy
    assert sync(0) == 0
    (run,) = project.runs().values()
    assert run.info.status == "FINISHED"
    weights = load_state_dict(f"runs:/{run.info.run_id}/state_dict")
    assert weights.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weights[name], weight)
    folder = Path(download_artifacts(f"runs:/{run.info.run_id}/model"))
    assert sha256_of(folder / WEIGHTS) == sha256_of(project.root / "models" / "tiny" / WEIGHTS)
    assert (folder / "config.json").exists()
    patch = download_artifacts(f"runs:/{run.info.run_id}/changes.patch")
    assert Path(patch).read_bytes() == b"+ a line"
    assert (project.root / "mlartifacts" / run.info.run_id).is_dir()
    assert not list(project.root.rglob("mlruns"))


def test_the_default_store_is_in_the_main_repository(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a DVC experiment in a temporary folder, and for a relative URI."""
    temporary = project.root / ".dvc" / "tmp" / "exps" / "standalone" / "tmpx"
    (temporary / ".dvc").mkdir(parents=True)
    for uri in ("", "sqlite:///mlflow.db"):
        monkeypatch.chdir(temporary)
        monkeypatch.setenv("TINYLLM_ROOT", str(project.root))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with Journal(header(name=uri or "default"), settings()) as journal:
            (temporary / "notes.txt").write_text("text")
            journal.file(temporary / "notes.txt", "notes.txt")
        monkeypatch.chdir(project.root)
        monkeypatch.delenv("TINYLLM_ROOT")
        (project.root / "deep").mkdir(exist_ok=True)
        done = project.sync("deep")
        assert done.returncode == 0, done.stderr
    assert project.statuses() == {"default": "FINISHED", "sqlite:///mlflow.db": "FINISHED"}
    assert len(list(project.root.glob("mlartifacts/*/artifacts/notes.txt"))) == 2
    assert not list(project.root.rglob("mlruns"))
    assert not list(temporary.rglob("mlflow.db"))


def test_the_users_settings_are_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = dict(os.environ)
    try:
        set_up_mlflow(project.root)
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///mlflow.db"
        del os.environ["MLFLOW_DISABLE_TELEMETRY"]
        set_up_mlflow(project.root)
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_without_a_tracker_nothing_is_recorded(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(header(), settings(tracker="none")) as journal:
        record(journal, range(3))
        journal.file(project.root / "mlflow.db", "x")
    assert not (project.root / ".tinyllm").exists()
    assert capsys.readouterr().err == ""


def test_old_sent_journals_are_deleted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = journal_of(header(name="first"))
    monkeypatch.setattr(outbox, "KEEP_BYTES", int(1.5 * (first / JOURNAL).stat().st_size))
    journal_of(header(name="second"))
    assert sync(0) == 0
    assert len(list(project.root.glob(".tinyllm/sent/*"))) == 1
