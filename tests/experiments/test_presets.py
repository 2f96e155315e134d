"""The recipes in presets/ are valid, small and complete, and `tinyllm preset` writes them."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT
from tests.test_language import Sentences, faults
from tinyllm.compute import choose
from tinyllm.data.sources.catalogue import CATALOGUE, check_source
from tinyllm.experiments.check import Machine, check_memory, vocabulary
from tinyllm.experiments.presets import DEFAULT, apply, load_presets, print_applied, print_presets
from tinyllm.experiments.settings_page import page
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.load import flatten, load_params
from tinyllm.training.data import check_share, model_config

PRESETS = load_presets(ROOT)
OTHERS = [name for name in PRESETS if name != DEFAULT]
each = pytest.mark.parametrize("name", OTHERS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings and the presets, as the current one."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def defaults() -> dict[str, object]:
    return flatten(load_params(ROOT / "params.yaml").model_dump())


def test_the_known_recipes_are_there() -> None:
    assert {"tiny", "tinyshakespeare", "tinystories", "gpu-124m"} == set(OTHERS)


def test_the_default_is_params_yaml_for_every_setting_that_a_preset_changes() -> None:
    changed = {key for name in OTHERS for key in PRESETS[name].changes}
    assert set(PRESETS[DEFAULT].changes) == changed
    assert PRESETS[DEFAULT].changes.items() <= defaults().items()


@each
def test_a_preset_holds_only_settings_that_differ(name: str) -> None:
    changes = PRESETS[name].changes
    assert not changes.keys() - defaults().keys()
    assert [key for key, value in changes.items() if defaults()[key] == value] == []


@each
def test_a_preset_in_params_yaml_is_valid_and_keeps_every_comment(name: str, project: Path) -> None:
    before = (project / "params.yaml").read_text()
    apply(name)
    after = (project / "params.yaml").read_text()
    params = load_params(project / "params.yaml", check_source)
    assert flatten(params.model_dump()) == defaults() | PRESETS[name].changes
    assert comments(after) == comments(before)

    apply(DEFAULT)
    assert (project / "params.yaml").read_text() == before


def comments(text: str) -> list[str]:
    """The last column of each row of the settings' page: what a setting is."""
    return [line.split(" | ")[-1] for line in page(text).splitlines()]


@each
def test_nothing_of_another_preset_remains_and_other_settings_stay(
    name: str, project: Path
) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("seed: 1337", "seed: 7"))
    apply(name)
    alone = params.read_text()
    for other in OTHERS:
        apply(other)
        apply(name)
        assert params.read_text() == alone
    assert load_params(params).seed == 7


@each
def test_a_model_of_a_preset_can_be_built_and_trained_here(name: str, project: Path) -> None:
    """As `tinyllm check` does, without the corpus and the time of steps."""
    apply(name)
    params = load_params(project / "params.yaml")
    assert params.download.source in CATALOGUE
    size = vocabulary(params.tokenize)
    config = model_config(params.train, size, end_of_text=size - 1)
    for processes in (1, 2, 8):
        check_share(params.train, processes)
    check_memory(config, choose(params.hardware, Machine(local_size=1, size=1)))


def test_gpu_124m_has_the_size_in_its_name(project: Path) -> None:
    apply("gpu-124m")
    params = load_params(project / "params.yaml")
    size = vocabulary(params.tokenize)
    with torch.device("meta"):
        model = TinyLLM(model_config(params.train, size, end_of_text=size - 1))
    assert 122e6 < model.n_parameters < 126e6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("train: {n_layers: 2}", "train.n_layers: is not a setting"),
        ("train: {n_head: 5}", "train.n_head = 5: must divide"),
        ("download: {source: nowhere}", "download.source = 'nowhere': must be one of"),
    ],
)
def test_a_wrong_preset_of_ones_own_is_an_error_and_changes_nothing(
    settings: str, message: str, project: Path
) -> None:
    before = (project / "params.yaml").read_bytes()
    write(project, settings)
    with pytest.raises(ValueError, match="does not fit:") as error:
        apply("mine")
    assert message in str(error.value)
    assert (project / "params.yaml").read_bytes() == before


def write(project: Path, settings: str) -> None:
    text = f"about: mine\ntakes: a\ngives: b\nneeds: c\nsettings:\n  {settings}\n"
    (project / "presets" / "mine.yaml").write_text(text)


def test_a_preset_of_ones_own_is_listed_and_applied(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, "train: {max_steps: 500}")
    print_presets()
    assert "mine: mine\n  takes  a\n" in capsys.readouterr().out
    print_applied("mine")
    assert "train.max_steps  900 -> 500" in capsys.readouterr().out
    print_applied("mine")
    assert "has the preset mine already" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_an_unknown_name_is_an_error_with_the_closest() -> None:
    with pytest.raises(ValueError, match=r"must be one of default, .*did you mean tiny\?"):
        apply("tinyy")


def test_a_file_that_is_no_preset_is_named(project: Path) -> None:
    (project / "presets" / "mine.yaml").write_text("about: mine\n")
    with pytest.raises(ValueError, match=r"presets/mine.yaml: takes: "):
        load_presets(project)


@pytest.mark.parametrize("name", PRESETS)
def test_the_words_of_a_preset_are_plain(name: str) -> None:
    text = (ROOT / "presets" / f"{name}.yaml").read_text()
    assert not list(faults(Sentences(1, text)))
