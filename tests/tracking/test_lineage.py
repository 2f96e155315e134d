"""The model that a training started from, in the record of its run."""

from pathlib import Path

import pytest

from tinyllm.common.files import sha256_of, write_json
from tinyllm.experiments.inputs import read_inputs
from tinyllm.tracking.lineage import lineage

LOCK = """
schema: '2.0'
stages:
  train:
    cmd: x
    deps: [{path: ../../elsewhere/base, md5: abc.dir, size: 7, nfiles: 2}]
    params: {params.yaml: {PARAMS}}
"""


def test_the_tags_have_the_hash_and_the_origin(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    digest = sha256_of(tmp_path / "model.safetensors")
    assert lineage(tmp_path) == {"tinyllm.init_from_sha256": digest}
    before = {"address": "runs:/7/model"}
    origin = {"address": "models:/a@b", "run_id": "7", "sha256": "of a copy", "origin": before}
    write_json(tmp_path / "origin.json", origin)
    assert lineage(tmp_path) == {
        "tinyllm.init_from_sha256": digest,
        "tinyllm.init_from_address": "models:/a@b",
        "tinyllm.init_from_run_id": "7",
    }
    assert lineage(None) == {}


@pytest.mark.parametrize("params", ["train: {init_from: PATH}", "train.init_from: PATH"])
def test_a_model_at_an_absolute_path_is_recorded_by_it(
    tmp_path: Path, params: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In dvc.lock, its path is relative to the project."""
    project = tmp_path / "a" / "project"
    project.mkdir(parents=True)
    monkeypatch.chdir(project)
    for given in (str(tmp_path / "elsewhere/base"), "../../elsewhere/base"):
        lock = LOCK.replace("PARAMS", params.replace("PATH", given))
        (project / "dvc.lock").write_text(lock)
        (found,) = read_inputs(project / "dvc.lock")
        assert found.path == given
