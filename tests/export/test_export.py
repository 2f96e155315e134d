"""`tinyllm export`: formats, default names, what it prints and what it refuses."""

import json
import shutil
from pathlib import Path

import gguf
import pytest

from tests.helpers import ROOT, random_model, tiny_config
from tests.pipeline import Project
from tinyllm.common.files import checksums, seal, sha256_of
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.experiments.export import export
from tinyllm.experiments.model_facts import facts_of
from tinyllm.export.facts import Facts
from tinyllm.export.formats import FORMATS, QUANTIZATIONS, format_of
from tinyllm.export.hugging_face import HuggingFace
from tinyllm.models.folder import WEIGHTS, load_model, save_model


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(
        tmp_path / "little", random_model(tiny_config(vocab_size=tokenizer.vocab_size)), tokenizer
    )
    return tmp_path / "little"


def tree(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}


def test_every_quantization_is_one_of_a_format() -> None:
    assert {*QUANTIZATIONS} == {q for name in FORMATS for q in format_of(name).quantizations}


# ----- the folder


def test_the_folder_is_a_copy_that_loads(folder: Path, tmp_path: Path) -> None:
    HuggingFace().write(tmp_path / "copy", folder, Facts("little"), None)
    assert tree(tmp_path / "copy") == tree(folder)
    load_model(tmp_path / "copy")


def test_the_page_about_the_model_is_in_the_folder(folder: Path, tmp_path: Path) -> None:
    card = f"# About little, {sha256_of(folder / WEIGHTS)}\n"
    (tmp_path / "card.md").write_text(card)
    HuggingFace().write(tmp_path / "copy", folder, Facts("x", card=tmp_path / "card.md"), None)
    assert (tmp_path / "copy" / "README.md").read_text() == card
    assert "README.md" in checksums(tmp_path / "copy")
    HuggingFace().write(tmp_path / "copy", folder, Facts("x", card=tmp_path / "none.md"), None)
    assert not (tmp_path / "copy" / "README.md").exists()


def test_the_folder_says_what_the_model_was_trained_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert facts_of(folder) == Facts("little")
    text = {"source": "docstrings of pandas", "licence": "BSD-3-Clause"}
    (folder / "training.json").write_text(json.dumps({"text": text}))
    seal(folder)
    found = facts_of(folder)
    assert (found.training_data, found.licence) == ("docstrings of pandas", "BSD-3-Clause")
    (folder / "training.json").write_text(json.dumps({"text": None}))
    with pytest.raises(ValueError, match=r"training\.json is corrupt"):
        facts_of(folder)
    seal(folder)
    assert facts_of(folder) == Facts("little")


def test_an_earlier_export_is_replaced(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "copy"
    output.mkdir()
    for _ in range(2):
        HuggingFace().write(output, folder, Facts("little"), None)
    assert tree(output) == tree(folder)


def test_other_files_are_not_replaced(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine"
    (output / "deep").mkdir(parents=True)
    (output / "deep" / "thesis.tex").write_text("years of work")
    for wrong, message in {
        output: r"mine has files that no export wrote, like thesis\.tex",
        folder: "little contains the model to export",
        tmp_path: "contains the model to export",
        output / "deep" / "thesis.tex": "is a file",
    }.items():
        with pytest.raises(ValueError, match=message):
            HuggingFace().write(wrong, folder, Facts("little"), None)
    assert (output / "deep" / "thesis.tex").read_text() == "years of work"
    load_model(folder)


def test_a_corrupt_file_that_tinyllm_does_not_read_is_found(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is corrupt"):
        HuggingFace().write(tmp_path / "copy", folder, Facts("little"), None)
    assert not (tmp_path / "copy").exists()


def test_a_folder_is_exported_outside_of_a_project(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    export("gguf", "little", None, None, None)
    assert capsys.readouterr().out.startswith("little.gguf: ")
    with pytest.raises(ValueError, match="not in a project: name a model with --model"):
        export("gguf", None, None, None, None)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"^little: config\.json is missing$"):
        export("gguf", "little", None, None, None)


# ----- the command, in a project whose pipeline has run


@pytest.mark.slow
def test_the_command_in_a_project(here: Project) -> None:
    """One test, because the pipeline runs first."""
    git = here.run("git", "log", "-1", "--format=%H").stdout.strip()
    here.run("git", "remote", "add", "origin", "https://me:secret@example.com:8443/a/b.git")
    first = here.run("python", "-m", "tinyllm", "export").stdout.splitlines()
    assert first[0].startswith("models/tinyllm.gguf: ")
    origin = f"trained on corpus, commit {git[:10]}, of https://example.com:8443/a/b.git"
    assert first[0].endswith(f"fp32; {origin}")
    assert "-m models/tinyllm.gguf" in first[1]
    fields = gguf.GGUFReader("models/tinyllm.gguf").fields
    assert fields["tinyllm.commit"].contents() == git
    assert fields["general.source.repo_url"].contents() == "https://example.com:8443/a/b.git"
    assert fields["general.name"].contents() == "tinyllm"
    smaller = here.run("python", "-m", "tinyllm", "export", "--quantize", "q8_0").stdout
    assert smaller.startswith("models/tinyllm-q8_0.gguf: ")
    copied = here.run("python", "-m", "tinyllm", "export", "--format", "hf", "out/copy").stdout
    assert copied.startswith("out/copy: ")
    exported, trained = checksums(Path("out/copy")), checksums(Path("models/tinyllm"))
    card = Path("out/copy/README.md").read_text()
    assert git in card and "model-index" in card  # the complete card, with its pictures
    assert {name for name in exported.keys() - trained.keys() if not name.endswith(".png")} == set()
    assert all(exported[name] == trained[name] for name in trained.keys() - {"README.md"})

    refused = here.run(
        "python", "-m", "tinyllm", "export", "--format", "hf", "--quantize", "q8_0", check=False
    )
    assert refused.returncode and refused.stderr == (
        "error: --quantize q8_0: the format hf stores fp32 only\n"
    )
    # A run and a revision have no folder beside which the file could be.
    here.run("python", "-m", "tinyllm", "rebuild")
    run = here.runs()[0].info.run_id
    for option, origin in (("--model", f"runs:/{run}"), ("--rev", "HEAD")):
        Path("model.gguf" if option == "--model" else "tinyllm.gguf").unlink(missing_ok=True)
        printed = here.run("python", "-m", "tinyllm", "export", option, origin).stdout
        assert printed.startswith("model.gguf: " if option == "--model" else "tinyllm.gguf: ")
        assert f"commit {git[:10]}" in printed or option == "--model"

    # Facts that certainly belong to the model, and no others.
    model = Path("models/tinyllm")
    assert facts_of(model).commit == git
    assert facts_of(Path("out/copy")) == Facts("copy", "corpus")
    (model / "generation_config.json").write_text("{}")
    assert facts_of(model) == Facts("tinyllm", "corpus")

    for name, message in {
        "models/tinyllm": "models/tinyllm/config.json is missing; run `dvc repro`",
        "out/copy": "out/copy: config.json is missing",
    }.items():
        (Path(name) / "config.json").unlink()
        failed = here.run("python", "-m", "tinyllm", "export", "--model", name, check=False)
        assert failed.returncode and failed.stderr == f"error: {message}\n"
    shutil.rmtree(model)
    failed = here.run("python", "-m", "tinyllm", "export", check=False)
    assert failed.stderr == "error: models/tinyllm is missing; run `dvc repro`\n"
