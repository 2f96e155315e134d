"""`tinyllm check` prints each problem that would stop a run, or a summary of the run."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import ROOT, make_documents, random_model, tiny_config
from tests.training.project import SETTINGS, change
from tinyllm.common.files import write_json
from tinyllm.common.units import about
from tinyllm.compute import choose
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.experiments.check import check, vocabulary
from tinyllm.models.folder import save_model
from tinyllm.settings.load import load_params
from tinyllm.training.data import model_config


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a small corpus of files, in which nothing has run."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    change(tmp_path, SETTINGS)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("\n\n".join(make_documents(20, seed=1)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The printed text of each label, with its lines joined."""
    capsys.readouterr()
    check()
    found: dict[str, str] = {}
    label = ""
    for line in capsys.readouterr().out.splitlines():
        label = line[:11].strip() or label
        found[label] = f"{found.get(label, '')}\n{line[11:]}".strip()
    return found


def problems() -> list[str]:
    with pytest.raises(ValueError) as caught:
        check()
    first, *lines = str(caught.value).splitlines()
    assert first.endswith((f"{len(lines)} wrong setting(s):", f"{len(lines)} problem(s):"))
    return lines


def test_it_prints_a_summary_of_the_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    found = report(capsys)
    assert time.monotonic() - start < 20  # ten, where nothing else runs
    first = (project / "corpus" / "a.txt").read_text().split()[:3]
    assert "1 file(s)" in found["corpus"] and f"a.txt: {' '.join(first)}" in found["corpus"]
    assert "qwen3, " in found["model"] and "300 tokens (bpe)" in found["model"]
    assert found["training"].startswith("60 steps of 128 tokens (4 sequences of 32), 7,680 in all")
    assert "cpu" in found["machine"] and "fp32, 1 thread(s)" in found["machine"]
    assert found["time"].startswith("about ") and "GB free" in found["disk"]


def test_the_parameters_are_those_of_the_model(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tinyllm.models.registry import TinyLLM

    params = load_params(project / "params.yaml")
    model = TinyLLM(model_config(params.train, params.tokenize.vocab_size, 0))
    assert f"{model.n_parameters:,} parameters" in report(capsys)["model"]


def test_a_million_steps_take_minutes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, {"max_steps": "1000000", "eval_interval": "1000000"})
    assert report(capsys)["time"].split()[2] in ("min", "h")


def test_on_a_busy_machine_it_says_that_the_time_is_too_long(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.exists()
    for load, said in ((0.3, False), (1.2, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert ("other programs use 1 of" in report(capsys)["time"]) == said


def test_it_says_that_the_time_is_of_steps_that_are_not_compiled(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.exists() and "measured without the compiler" not in report(capsys)["time"]
    chosen = choose(load_params(project / "params.yaml").hardware)
    monkeypatch.setattr(
        "tinyllm.experiments.check.choose", lambda *_: replace(chosen, compiled=True)
    )
    assert "measured without the compiler" in report(capsys)["time"]


def test_wrong_settings_are_reported_all_at_once(project: Path) -> None:
    change(project, {"max_steps": "0", "n_head": "7", "source": "tinystory"})
    lines = problems()
    assert [line.split(" = ")[0] for line in lines] == [
        "download.source", "train.max_steps", "train.n_head",
    ]  # fmt: skip


def test_corpus_and_machine_are_reported_together(project: Path) -> None:
    (project / "corpus" / "a.txt").write_bytes(b"caf\xe9 au lait")
    (project / "corpus" / "b.jsonl").write_text('{"txt": "a"}\n')
    change(project, {"device": "mps"})
    device, text, records = problems()
    assert device.startswith("hardware.device = 'mps'")
    assert "a.txt" in text and "b.jsonl contains records" in records


def test_a_model_that_no_memory_holds_is_reported_before_it_is_built(project: Path) -> None:
    change(project, {"n_layer": "1000", "d_model": "20000"})
    with pytest.raises(ValueError, match=r"^out of memory: .*,\d{3},\d{3},\d{3} parameters"):
        check()


def test_a_corpus_that_is_missing_or_empty_is_reported(project: Path) -> None:
    (project / "corpus" / "a.txt").rename(project / "corpus" / "a.pdf")
    assert "none of its 1 file(s)" in problems()[0]
    shutil.rmtree(project / "corpus")
    assert problems() == ["download.path = 'corpus': the file or folder does not exist"]


def test_a_package_that_is_not_installed_is_reported(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("- pandas==", "- nopandas=="))
    change(project, {"source": "docstrings"})
    assert problems() == ["download.packages: nopandas is not installed"]


def test_addresses_are_shown_without_a_request(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = '"http://user:secret@127.0.0.1:9/{00..04}.txt"'
    change(project, {"source": "url", "url": url})
    corpus = report(capsys)["corpus"]
    assert corpus.startswith("5 address(es)") and "127.0.0.1:9/02.txt" in corpus
    assert "secret" not in corpus and "03.txt" not in corpus
    change(project, {"source": "tinystories"})
    assert "2.2 GB" in report(capsys)["corpus"]


def test_sizes_of_published_vocabularies_need_no_download(project: Path) -> None:
    settings = load_params(project / "params.yaml").tokenize
    assert vocabulary(settings.model_copy(update={"encoding": "gpt2"})) == 50257


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "about 1 s"), (80, "about 80 s"), (121, "about 2 min"), (7000, "about 2 h"),
     (200_000, "about 2 days")],
)  # fmt: skip
def test_a_rough_duration(seconds: float, shown: str) -> None:
    assert about(seconds) == shown


def save_base(folder: Path) -> None:
    """Save a model whose shape is that of SETTINGS."""
    tokenizer = Tokenizer.train(make_documents(50, seed=1), 300)
    save_model(folder, random_model(tiny_config(vocab_size=300, n_layer=1)), tokenizer)


def test_it_names_the_model_that_training_starts_from(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "weights" not in report(capsys)
    save_base(project / "models/base")
    change(project, {"init_from": "models/base"})
    assert report(capsys)["weights"] == "of models/base"
    write_json(project / "models/base/origin.json", {"address": "models:/tinyllm@champion"})
    assert report(capsys)["weights"] == "of models/base, from models:/tinyllm@champion"


def test_the_models_own_folder_is_no_start(project: Path) -> None:
    save_base(project / "models/tinyllm")
    change(project, {"init_from": "./models/../models/tinyllm"})
    assert problems() == [
        "train.init_from = './models/../models/tinyllm': must not be what the stage train makes; "
        "copy it first with `tinyllm fetch models/tinyllm models/base`"
    ]
