"""A result is refused if its inputs changed, and only then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.common import source_files, unchanged
from tinyllm.common.files import seal
from tinyllm.common.unchanged import MadeFrom


@pytest.fixture
def params(tmp_path: Path) -> Path:
    file = tmp_path / "params.yaml"
    file.write_text("seed: 1\nsplit:\n  test_fraction: 0.1\ntrain:\n  max_steps: 3\n")
    return file


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Create a sealed folder."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens/a.npy").write_bytes(b"a")
    seal(tmp_path / "tokens")
    return tmp_path / "tokens"


def test_settings_that_a_stage_does_not_depend_on_may_change(params: Path, tokens: Path) -> None:
    with MadeFrom("split", [tokens], params, ["split"]):
        text = params.read_text().replace("max_steps: 3", "max_steps: 4")
        params.write_text("# a comment\n" + text)


def test_a_stage_may_depend_on_some_keys_of_a_section(params: Path) -> None:
    def change(key: str) -> None:
        params.write_text(params.read_text().replace(f"{key}: ", f"{key}: 9"))

    params.write_text(params.read_text() + "  batch_size: 8\n")
    with MadeFrom("split", [], params, ["train.max_steps"]):
        change("batch_size")
    with (
        pytest.raises(ValueError, match=r"^changed while split ran: train\.max_steps; "),
        MadeFrom("split", [], params, ["train.max_steps"]),
    ):
        change("max_steps")


def test_every_change_is_named_and_a_sealed_folder_once(params: Path, tokens: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"^changed while split ran: ") as raised,
        MadeFrom("split", [tokens], params, ["seed", "split"]),
    ):
        params.write_text(params.read_text().replace("1\n", "2\n"))
        (tokens / "b.npy").write_bytes(b"b")
        seal(tokens)
    assert f"ran: {tokens}/, seed, split.test_fraction; " in str(raised.value)


def test_a_failure_after_a_change_reports_the_change(tokens: Path) -> None:
    """Half of a last line, for example, must not lead to advice on the format of the text."""
    with (
        pytest.raises(ValueError, match=r"^changed while split ran: .*/a\.npy; ") as raised,
        MadeFrom("split", [tokens]),
    ):
        (tokens / "a.npy").write_bytes(b"longer")
        raise ValueError("line 7 is not JSON")
    assert "line 7 is not JSON" in str(raised.value.__context__)


def test_an_input_that_is_only_touched_or_linked_is_unchanged(tokens: Path) -> None:
    """DVC can be set to link cached files, also while another experiment runs."""
    with MadeFrom("split", [tokens]):
        os.utime(tokens / "a.npy", (1, 1))
        os.link(tokens / "a.npy", tokens.parent / "linked.npy")


def test_an_input_whose_time_is_set_back_is_changed(tokens: Path) -> None:
    before = (tokens / "a.npy").stat()
    with (
        pytest.raises(ValueError, match=r"^changed while split ran: .*/a\.npy; "),
        MadeFrom("split", [tokens]),
    ):
        (tokens / "a.npy").write_bytes(b"b")
        os.utime(tokens / "a.npy", ns=(before.st_atime_ns, before.st_mtime_ns))


def test_any_other_failure_is_raised_unchanged(tokens: Path) -> None:
    with pytest.raises(ValueError, match=r"^line 7$"), MadeFrom("split", [tokens]):
        raise ValueError("line 7")
    with pytest.raises(KeyboardInterrupt), MadeFrom("split", [tokens]):
        (tokens / "a.npy").write_bytes(b"longer")
        raise KeyboardInterrupt


def test_settings_that_became_unreadable_are_named(params: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"^params\.yaml: "),
        MadeFrom("split", [], params, ["split"]),
    ):
        params.write_text("split: [")


def test_python_runs_an_edit_made_within_the_same_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edit keeps size and time, so that Python takes the old bytecode for up to date."""
    (tmp_path / "stages").mkdir()
    module = tmp_path / "stages/split.py"
    compiling = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [sys.executable, "-c", "from stages.split import STD; print(STD)"]

    def runs() -> str:
        return subprocess.check_output(command, cwd=tmp_path, env=compiling, text=True).strip()

    module.write_text("STD = 1.0\n")
    before = module.stat()
    assert runs() == "1.0"
    module.write_text("STD = 0.5\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert runs() == "1.0"
    for part in (source_files, unchanged):
        monkeypatch.setattr(part, "ROOT", tmp_path)
    (tmp_path / "requirements.lock").touch()
    MadeFrom("split")
    assert runs() == "0.5"
