"""An interrupted and resumed stage is one run in MLflow, with each metric once."""

import fcntl
import os
from contextlib import nullcontext, suppress

import pytest

from tests.tracking.helpers import ALL_POINTS, STEPS, Project, events, header, record, settings
from tinyllm.tracking.folders import JOURNAL, locked
from tinyllm.tracking.journal import Journal
from tinyllm.tracking.outbox import sync

pytestmark = pytest.mark.usefixtures("no_follower")


def interrupted(project: Project, steps: range) -> None:
    """Continue a stage's journal, record some steps and interrupt the stage."""
    with (
        suppress(KeyboardInterrupt),
        Journal(header(name="one"), settings(), project.root / "bookmark") as journal,
    ):
        record(journal, steps)
        raise KeyboardInterrupt


@pytest.mark.parametrize("sent_before", [True, False])
def test_a_resumed_stage_continues_its_run_without_duplicate_steps(
    project: Project, sent_before: bool
) -> None:
    interrupted(project, range(10))
    if sent_before:
        assert sync(0) == 0
        assert project.statuses() == {"one": "KILLED"}
        assert project.journals == []
    interrupted(project, range(5, 20))  # from the last checkpoint on
    if sent_before:
        assert sync(0) == 0
    with Journal(header(name="one"), settings(), project.root / "bookmark") as journal:
        record(journal, range(20, STEPS))
    assert sync(0) == 0
    (run,) = project.runs().values()
    assert run.info.status == "FINISHED"
    assert project.points(run) == ALL_POINTS


def test_a_resumed_run_has_status_running(project: Project) -> None:
    interrupted(project, range(10))
    assert sync(0) == 0
    with Journal(header(name="one"), settings(), project.root / "bookmark") as journal:
        record(journal, range(10, 12))
        assert sync(0) == 0
        assert project.statuses() == {"one": "RUNNING"}
    assert sync(0) == 0
    assert project.statuses() == {"one": "FINISHED"}


def test_the_description_starts_with_the_reason_until_the_stage_resumes(project: Project) -> None:
    what, bookmark = header(name="one", note="the command"), project.root / "bookmark"

    def note() -> str:
        return str(project.runs()["one"].data.tags["mlflow.note.content"])

    with pytest.raises(ValueError, match="diverged"), Journal(what, settings(), bookmark):
        raise ValueError("diverged at step 7;\nlower train.learning_rate")
    assert sync(0) == 0
    assert note() == "**Failed:** diverged at step 7; lower train.learning_rate\n\nthe command"
    _edit_note(project, f"{note()}\n\nand a user's text")
    with Journal(what, settings(), bookmark) as journal:
        record(journal, range(3))
        assert sync(0) == 0
        assert note() == "the command\n\nand a user's text"
    with (
        suppress(KeyboardInterrupt),
        Journal(header(name="two"), settings()),
    ):
        raise KeyboardInterrupt("stopped by SIGTERM at step 8 of 9, saved")
    assert sync(0) == 0
    assert note() == "the command\n\nand a user's text"
    stopped = project.runs()["two"].data.tags["mlflow.note.content"]
    assert stopped == "**Stopped:** stopped by SIGTERM at step 8 of 9, saved"


def _edit_note(project: Project, text: str) -> None:
    from mlflow import MlflowClient

    MlflowClient().set_tag(project.runs()["one"].info.run_id, "mlflow.note.content", text)


@pytest.mark.parametrize("sent", ["", "being sent", "sent"])
def test_a_finished_run_is_not_changed(project: Project, sent: str) -> None:
    what, bookmark, report = header(name="one"), project.root / "bookmark", project.root / "a.txt"
    with Journal(what, settings(), bookmark) as journal:
        record(journal, range(STEPS))
    if sent == "sent":
        assert sync(0) == 0
    (folder,) = project.root.glob(".tinyllm/*/*-train")
    before = (folder / JOURNAL).read_bytes()
    report.write_text("the same again")
    with (
        locked(folder) if sent == "being sent" else nullcontext(),
        Journal(what, settings(), bookmark) as journal,
    ):
        record(journal, range(STEPS))
        journal.file(report, report.name)
        journal.tags({"again": "yes"})
    assert (folder / JOURNAL).read_bytes() == before
    assert sync(0) == 0
    (run,) = project.runs().values()
    assert run.info.end_time == events(next(project.root.glob(".tinyllm/sent/*")))[-1]["time"]
    assert project.points(run) == ALL_POINTS


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_events_missing_at_the_end_are_recorded_later(project: Project, how: str) -> None:
    interrupted(project, range(STEPS))
    if how == "killed":  # without an end
        file = project.journals[0] / JOURNAL
        os.truncate(file, len(b"".join(file.read_bytes().splitlines(keepends=True)[:-1])))
    (project.root / "a.txt").write_text("a report")
    with Journal(header(name="one"), settings(), project.root / "bookmark") as journal:
        journal.file(project.root / "a.txt", "a.txt")
    assert sync(0) == 0
    (run,) = project.runs().values()
    assert run.info.status == "FINISHED"
    assert project.points(run) == ALL_POINTS
    assert list(project.root.glob(f"mlartifacts/{run.info.run_id}/artifacts/a.txt"))


def test_a_line_truncated_by_a_kill_is_written_again(project: Project) -> None:
    interrupted(project, range(10))
    file = project.journals[0] / JOURNAL
    lines = file.read_bytes().splitlines(keepends=True)[:-1]  # as after a kill: without an end
    os.truncate(file, len(b"".join(lines)) - 20)
    interrupted(project, range(9, STEPS))
    assert "resume" in [event["kind"] for event in events(project.journals[0])]
    assert sync(0) == 0
    (run,) = project.runs().values()
    assert project.points(run) == ALL_POINTS


def test_a_corrupt_line_does_not_stop_training(project: Project) -> None:
    interrupted(project, range(10))
    with (project.journals[0] / JOURNAL).open("ab") as file:
        file.write(b"\0\0\0\n")
    interrupted(project, range(10, STEPS))
    assert sync(0) == 0
    assert project.points(project.runs()["one"]) == ALL_POINTS


def test_workers_of_a_killed_stage_do_not_stop_training(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyllm.tracking.journal.REOPEN_PATIENCE", 0.1)
    interrupted(project, range(10))
    with (project.journals[0] / JOURNAL).open("ab") as worker:
        fcntl.flock(worker, fcntl.LOCK_EX)
        interrupted(project, range(10, STEPS))
        assert len(project.journals) == 2  # a separate run
    assert project.journals[0] != project.journals[1]


def test_a_bookmark_to_a_missing_journal_starts_a_new_run(project: Project) -> None:
    (project.root / "bookmark").write_text("20200101T000000Z-aaaaaa-train")
    interrupted(project, range(STEPS))
    assert sync(0) == 0
    assert project.points(project.runs()["one"]) == ALL_POINTS
