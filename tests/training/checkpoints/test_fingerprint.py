"""Everything that decides a training's result is in its fingerprint, and nothing else."""

import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT, flip_bit
from tinyllm.common import source_files
from tinyllm.compute import Compute
from tinyllm.settings.load import Params, load_params
from tinyllm.settings.runtime import Runtime
from tinyllm.settings.train import Train
from tinyllm.training.checkpoints import identity
from tinyllm.training.checkpoints.checkpoint import Loaded
from tinyllm.training.checkpoints.resume import _check_hardware

PARAMS = load_params(ROOT / "params.yaml")
STAGE = "stages.train"
NO_CODE = "tinyllm"  # an empty module
COMPUTE = Compute("cpu", "fp32", 1, "a processor", "AVX2", "2.0", "2.4")
# Another valid value, for settings where one can't be derived from the current value.
OTHERS: dict[str, Any] = {
    "optimizer": "sgd",
    "schedule": "wsd",
    "save": "last",
    "architecture": "llama",
    "n_head": 2,
    "n_kv_head": 2,
    "micro_batch_size": 2,
    "decay_steps": 500,
    "patience": 3,
    "experiment": "another",
    "tracker": "none",
    "checkpoint_steps": 5,
}


def another(section: Train | Runtime, name: str) -> Any:
    """A valid value of a setting other than the current one."""
    value = getattr(section, name)
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [value[0] / 2, *value[1:]]
    if isinstance(value, float):
        return value / 2 or 1e-4
    assert isinstance(value, int), f"{name}: give another valid value in OTHERS"
    return value * 2 or 1


def changed(section: str, name: str) -> Params:
    """The settings with another value of one, validated like the originals."""
    settings = getattr(PARAMS, section)
    values = PARAMS.model_dump()
    values[section] = settings.model_dump() | {name: another(settings, name)}
    return Params.model_validate(values)


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    """Stand-ins for the tokenizer, the splits and their summary."""
    tokenizer, split, summary = tmp_path / "tokenizer", tmp_path / "split", tmp_path / "splits.json"
    for folder, names in ((tokenizer, ["a.json", "b.tiktoken"]), (split, ["ids.npy", "deep/er"])):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{folder.name}/{name}")
    summary.write_text("{}")
    return [tokenizer, split, summary]


# Of init_from, the weights decide: tests/training/test_init_from.py.
@pytest.mark.parametrize("name", [name for name in Train.model_fields if name != "init_from"])
def test_changing_any_training_setting_makes_another_training(name: str) -> None:
    before = identity.take(PARAMS, NO_CODE, [])
    after = identity.take(changed("train", name), NO_CODE, [])
    assert after.name != before.name
    differences = after.differences(before)
    assert f"train.{name}" in differences
    # Settings derived from it may differ too.
    derived = ("n_kv_head", "micro_batch_size", "decay_steps")
    assert set(differences) <= {f"train.{n}" for n in (name, *derived)}


def test_changing_the_seed_makes_another_training() -> None:
    after = identity.take(PARAMS.model_copy(update={"seed": PARAMS.seed + 1}), NO_CODE, [])
    assert after.differences(identity.take(PARAMS, NO_CODE, [])) == ["seed"]


@pytest.mark.parametrize("name", Runtime.model_fields)
def test_changing_a_runtime_setting_makes_no_other_training(name: str) -> None:
    after = identity.take(changed("runtime", name), NO_CODE, [])
    assert after == identity.take(PARAMS, NO_CODE, [])


def test_changing_any_byte_of_the_inputs_makes_another_training(inputs: list[Path]) -> None:
    before = identity.take(PARAMS, NO_CODE, inputs)
    files = [f for path in inputs for f in [path, *path.rglob("*")] if f.is_file()]
    assert len(files) == 5
    for file in files:
        for offset in (0, -1):
            whole = file.read_bytes()
            flip_bit(file, offset)
            assert identity.take(PARAMS, NO_CODE, inputs).differences(before) == [file.as_posix()]
            file.write_bytes(whole)
    (inputs[1] / "new").write_text("")
    files[0].unlink()
    after = identity.take(PARAMS, NO_CODE, inputs)
    assert set(after.differences(before)) == {str(inputs[1] / "new"), files[0].as_posix()}


@pytest.mark.slow
def test_changing_any_code_makes_another_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in source_files.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(source_files, "ROOT", tmp_path)
    before = identity.take(PARAMS, STAGE, [])
    files = source_files.files_of(STAGE)
    assert Path("tinyllm/models/nanochat.py") in files and Path("stages/train.py") in files
    for file in files:
        whole = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(whole + b"# another line\n")
        assert identity.take(PARAMS, STAGE, []).differences(before) == [file.as_posix()]
        (tmp_path / file).write_bytes(whole)


@pytest.mark.parametrize("name", [field.name for field in fields(Compute)])
def test_other_hardware_is_an_error_or_reported(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value = getattr(COMPUTE, name)
    other = value + 1 if isinstance(value, int) else f"not {value}"
    now = Compute(**{**asdict(COMPUTE), name: other})
    loaded = Loaded(Path("step-7"), {}, {}, [asdict(COMPUTE)])
    with pytest.raises(ValueError, match=rf"{name} was {value}, is .*hardware\.resume"):
        _check_hardware(loaded, now, PARAMS)
    hardware = PARAMS.hardware.model_copy(update={"resume": "any"})
    _check_hardware(loaded, now, PARAMS.model_copy(update={"hardware": hardware}))
    assert f"{name} was {value}, is" in capsys.readouterr().out
    mixed = Loaded(Path("step-7"), {}, {}, [asdict(COMPUTE), asdict(now)])
    with pytest.raises(ValueError, match=rf"{name} was {value}, is .*hardware\.resume"):
        _check_hardware(mixed, now, PARAMS)
    _check_hardware(loaded, COMPUTE, PARAMS)
    assert capsys.readouterr().out == ""
