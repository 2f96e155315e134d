"""The recorded inputs are those that were used: in dvc.lock, in a clone, and on a run's page.

Every case is a real `dvc repro`, or the commands of a real run's note in a fresh clone.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipeline import Project
from tinyllm.common.files import sha256_of
from tinyllm.experiments.provenance import hydra

# Python runs this file at its start. In one stage it waits until a file is opened, and then changes
# another one: the edit happens in the middle of the stage on a machine of any speed.
EDITOR = """
import sys

if {stage!r} in getattr(sys, "orig_argv", []):
    done = []

    def edit(event, arguments):
        if event == "open" and not done and str(arguments[0]).endswith({opened!r}):
            done.append(True)
            {edit}

    sys.addaudithook(edit)
"""


@dataclass(frozen=True)
class Edit:
    """An edit while a stage runs.

    Attributes:
        opened: the file that triggers the edit when the stage opens it.
        edit: a line of Python.
        named: the name in the stage's error.
    """

    stage: str
    opened: str
    edit: str
    named: str


def append(name: str, text: str) -> str:
    return f"open({name!r}, 'a').write({text!r})"


def rewrite(name: str) -> str:
    """Change a text without its size, and restore its time, as some editors and tools do."""
    before = f"import os; old = os.stat({name!r}); text = open({name!r}).read()"
    changed = f"open({name!r}, 'w').write(text[::-1])"
    return f"{before}; {changed}; os.utime({name!r}, ns=(old.st_atime_ns, old.st_mtime_ns))"


def write(name: str, old: str, new: str) -> str:
    read = f"(text := open({name!r}).read())"
    return f"{read}; open({name!r}, 'w').write(text.replace({old!r}, {new!r}))"


WRITTEN = ".tmp"  # the download's manifest under its temporary name, after reading the texts
EDITS = {
    "a text that grows": Edit(
        "download", WRITTEN, append("corpus/small.txt", "\nlate"), "corpus/small.txt"
    ),
    "a text, its time set back": Edit(
        "download", WRITTEN, rewrite("corpus/small.txt"), "corpus/small.txt"
    ),
    "another text": Edit(
        "download", "corpus/small.txt", append("corpus/late.txt", "late"), "corpus/late.txt"
    ),
    "a setting": Edit(
        "tokenize",
        "raw/manifest.json",
        write("params.yaml", "vocab_size: 300", "vocab_size: 310"),
        "tokenize.vocab_size",
    ),
    "an input": Edit(
        "tokenize",
        "raw/manifest.json",
        append("data/raw/files/small.txt", "late"),
        "data/raw/files/small.txt",
    ),
    "a module": Edit(
        "split",
        "tokens/index.json",
        append("tinyllm/data/split_rule.py", "# another\n"),
        "tinyllm/data/split_rule.py",
    ),
    "a module, broken": Edit(
        "evaluate",
        "tinyllm/config.json",
        append("tinyllm/evaluation/baselines.py", "def half("),
        "tinyllm/evaluation/baselines.py",
    ),
}


def with_editor(project: Project, edit: Edit) -> Project:
    """The project, with an edit while a stage runs."""
    folder = project.root.parent / "editor"
    folder.mkdir()
    values = {"stage": f"stages.{edit.stage}", "opened": edit.opened, "edit": edit.edit}
    (folder / "sitecustomize.py").write_text(EDITOR.format(**values))
    return Project(project.root, {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"})


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_an_edit_during_a_stage_fails_it_and_nothing_is_recorded(
    quiet: Project, edit: Edit
) -> None:
    quiet.append(f"stages/{edit.stage}.py", "# so that it runs\n")
    before = quiet.outputs()
    failed = with_editor(quiet, edit).dvc("repro", "--single-item", edit.stage, check=False)
    assert failed.returncode != 0
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("error: changed")]
    assert line.startswith(f"error: changed while {edit.stage} ran: {edit.named}; ")
    after = quiet.outputs()  # includes dvc.lock
    assert {n: d for n, d in after.items() if before[n] != d and n != edit.named} == {}
    assert after.keys() == before.keys()
    assert f"{edit.stage}:" in quiet.dvc("status", edit.stage).stdout


def test_a_touched_text_has_not_changed(quiet: Project) -> None:
    quiet.append("stages/download.py", "# so that it runs\n")
    touch = Edit("download", WRITTEN, "import os; os.utime('corpus/small.txt')", "")
    before = (quiet.root / "corpus/small.txt").stat().st_mtime_ns
    with_editor(quiet, touch).dvc("repro", "download")
    assert (quiet.root / "corpus/small.txt").stat().st_mtime_ns != before


def test_a_growing_text_is_read_once_it_stops_growing(quiet: Project) -> None:
    quiet.append("stages/download.py", "# so that it runs\n")
    growing = with_editor(quiet, EDITS["a text that grows"])
    assert growing.dvc("repro", "download", check=False).returncode != 0
    assert quiet.dvc("repro", "download").returncode == 0
    assert (quiet.root / "data/raw/files/small.txt").read_text().endswith("\nlate")


def test_a_clone_with_converted_line_endings_is_up_to_date(ran: Project, tmp_path: Path) -> None:
    """Git on Windows often converts them; DVC compares bytes."""
    root = tmp_path / "clone"
    ran.run("git", "clone", "--quiet", "--config", "core.autocrlf=true", str(ran.root), str(root))
    copied = Project(root)
    copied.dvc("cache", "dir", "--local", str(ran.root / ".dvc" / "cache"))
    copied.dvc("checkout")
    assert "up to date" in copied.dvc("status").stdout
    assert copied.outputs() == ran.outputs()


@pytest.mark.slow
def test_the_note_of_an_experiment_reproduces_its_model_in_a_fresh_clone(
    copy: Project, empty_database: Path, tmp_path: Path
) -> None:
    """DVC prepares it within a second, in which Git misses an edit of the same size."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[diff]\n\tnoprefix = true\n\torderFile = /nowhere\n")
    copy = Project(copy.root, {"GIT_CONFIG_GLOBAL": str(settings)})
    shutil.copyfile(empty_database, copy.root / "mlflow.db")
    network = copy.root / "tinyllm/models/model.py"
    code = network.read_text()
    assert "std=1.0," in code
    network.write_text(code.replace("std=1.0,", "std=0.5,"))
    prompt = hydra(['it\'s a "$HOME" \\${seed}\n\U0001f642 \\'])
    changes = ("-S", "train.learning_rate=0.02", "-S", f"evaluate.prompts={prompt}")
    copy.dvc("exp", "run", "--temp", "--name", "edited", *changes)
    (run,) = copy.runs()
    assert run.data.tags["git.dirty"] == "true"
    artifacts = copy.root / "mlartifacts" / run.info.run_id / "artifacts"

    copy.run("git", "clone", "--quiet", str(copy.root), str(tmp_path / "fresh"))
    fresh = Project(tmp_path / "fresh", copy.environment)
    fresh.dvc("cache", "dir", "--local", str(copy.root / ".dvc" / "cache"))
    fresh.dvc("checkout")
    before = fresh.outputs()
    shutil.copyfile(artifacts / "changes.patch", fresh.root / "changes.patch")
    shutil.copyfile(empty_database, fresh.root / "mlflow.db")  # MLflow takes seconds to create one
    note = run.data.tags["mlflow.note.content"]
    fresh.run("bash", "-e", "-c", note.split("```")[1].removeprefix("sh"))
    weights = "models/tinyllm/model.safetensors"
    after, samples = fresh.outputs(), "reports/evaluate/samples.md"
    assert after[weights] == run.data.tags["tinyllm.model_sha256"] != before[weights]
    assert after[samples] == sha256_of(artifacts / samples) != before[samples]
