"""Passwords are never stored or printed."""

import stat
from pathlib import Path

import pytest

from tests.tracking.helpers import Project, free_port, header, record, settings
from tinyllm.tracking.journal import Journal
from tinyllm.tracking.masking import masked
from tinyllm.tracking.outbox import Delivery, sync

PASSWORD = "p@ss%2Fw0rd"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("mysql+pymysql://u:p@ss@h:3306/d?ssl=1", "mysql+pymysql://u:***@h:3306/d?ssl=1"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("two: http://a:b@c/d, 'https://e:f@g'", "two: http://a:***@c/d, 'https://e:***@g'"),
        ("https://token@host/x", "https://***@host/x"),
        ("mssql://h/d?user=u&password=secret", "mssql://h/d?user=u&password=***"),
        ("https://h/f?X-Amz-Signature=abc&x=1#y", "https://h/f?X-Amz-Signature=***&x=1#y"),
        ("https://h/f?sv=1&sig=a%2Bb", "https://h/f?sv=1&sig=***"),
        ("http://127.0.0.1:5000/a@b", "http://127.0.0.1:5000/a@b"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("s3://bucket/key, user@host: 12:30", "s3://bucket/key, user@host: 12:30"),
    ],
)
def test_an_address_is_shown_without_its_password(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


def test_secrets_of_the_environment_are_masked_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-12345678")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://mlflow:{PASSWORD}@host/mlflow")
    assert masked(f"no: tok-12345678, {PASSWORD}, p@ss/w0rd: mlflow") == "no: ***, ***, ***: mlflow"


@pytest.mark.filterwarnings("ignore:Query string argument")
@pytest.mark.usefixtures("no_follower")
def test_no_file_contains_a_password(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"http://me:{PASSWORD}@127.0.0.1:{free_port()}"
    note = f"dvc exp run -S 'download.url={address}'"
    params = {"download.url": [address]}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(ValueError, match="refused"),
        Journal(header(params=params, note=note), settings()) as journal,
    ):
        record(journal, range(3))
        raise ValueError(f"{address} refused it")
    assert not Delivery(journal.folder).attempt()  # nothing answers there
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db?password=" + PASSWORD)
    assert sync(0) == 0
    secrets = (PASSWORD, "p@ss/w0rd", "p%40ss")
    for path in (project.root / ".tinyllm").rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret in path.read_text()], path
    assert not [secret for secret in secrets if secret in "".join(capsys.readouterr())]
    (run,) = project.runs().values()
    assert run.data.params["download.url"] == f"['{address.replace(PASSWORD, '***')}']"
    assert "me:***@" in run.data.tags["mlflow.note.content"]


def test_only_the_owner_can_read_journals(project: Project) -> None:
    stage = project.start("one", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}")
    stage.kill()
    stage.communicate()
    (journal,) = project.journals
    assert _mode(journal) == 0o700
    found = {path.name: _mode(path) for path in journal.iterdir() if path.is_file()}
    assert {"journal.jsonl", "follower.log"} <= found.keys()
    assert set(found.values()) == {0o600}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
