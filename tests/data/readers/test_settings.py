"""Settings from a shell or params.yaml reach the reader, and its findings reach the user."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from tests.data.readers.packed import as_jsonl
from tests.helpers import ROOT
from tinyllm.settings.load import load_params


@pytest.mark.parametrize(
    ("typed", "separator"),
    [
        ("""$'download.separator="\\n\\n"'""", "\n\n"),  # as in the warning and params.yaml
        ("""'download.separator="\\n\\n"'""", "\\n\\n"),
    ],
)
def test_the_quoting_that_works(tmp_path: Path, typed: str, separator: str) -> None:
    bash = ["bash", "-c", f"printf %s {typed}"]
    argument = subprocess.run(bash, capture_output=True, check=True, text=True).stdout
    params = tmp_path / "params.yaml"
    params.write_bytes((ROOT / "params.yaml").read_bytes())
    apply_overrides(params, [argument])
    assert load_params(params).download.separator == separator


def test_the_stage_prints_the_findings(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.jsonl").write_bytes(as_jsonl([{"text": "a"}, {"text": None}]))
    (tmp_path / "texts/b.txt").write_bytes(b"na\xefve")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {
        "source": "path", "path": "texts", "on_invalid": "skip", "errors": "replace",
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    stage = [sys.executable, "-m", "stages.download", "--params", "params.yaml", "--raw", "raw"]
    done = subprocess.run(
        stage,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "1 invalid record(s) skipped: a.jsonl, line 2: its 'text' is null" in done.stdout
    assert "1 character(s) replaced by U+FFFD, in b.txt: 1" in done.stdout
