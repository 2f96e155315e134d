"""The pipeline as users run it: `dvc repro` in a clone of the working tree."""

import re
import shutil
import time
from pathlib import Path

import pytest
import yaml

from tests.pipeline import STAGES, Project, stages_run, words
from tinyllm.common.files import read_json, sha256_of
from tinyllm.common.source_files import NO_RESULT


def test_a_clone_produces_a_model_its_scores_and_an_mlflow_run(ran: Project) -> None:
    pipeline = yaml.safe_load((ran.root / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in STAGES:
        for out in pipeline["stages"][stage]["outs"]:
            assert (ran.root / next(iter(out))).exists(), out
    scores = read_json(ran.root / "reports/evaluate/metrics.json")["test"]
    assert 0 < scores["bits_per_byte"] < 8

    (run,) = ran.runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["train.max_steps"] == "6"
    assert run.data.metrics["test/bits_per_byte"] == scores["bits_per_byte"]
    weights = ran.root / "models/tinyllm/model.safetensors"
    assert run.data.tags["tinyllm.model_sha256"] == sha256_of(weights)
    artifacts = ran.root / "mlartifacts" / run.info.run_id / "artifacts"
    assert sha256_of(next(artifacts.rglob("model.safetensors"))) == sha256_of(weights)


def test_the_model_has_a_card_and_the_evaluation_writes_a_complete_one(ran: Project) -> None:
    folder, report = ran.root / "models/tinyllm", ran.root / "reports/evaluate/model_card.md"
    short, complete = (folder / "README.md").read_text(), report.read_text()
    assert "bits per byte" in short and "model-index" not in short
    assert sha256_of(folder / "model.safetensors") in complete
    links = re.findall(r"!\[.*\]\((.*)\)", complete)
    assert len(links) == 4
    assert all((report.parent / link).is_file() for link in links)


def test_the_run_has_a_page_also_in_mlflow(ran: Project) -> None:
    page = ran.root / "reports/index.html"
    scores = read_json(ran.root / "reports/evaluate/metrics.json")["test"]
    assert f"<strong>{scores['bits_per_byte']:.3f}</strong> bits per byte" in page.read_text()
    (run,) = ran.runs()
    kept = ran.root / "mlartifacts" / run.info.run_id / "artifacts/reports/index.html"
    assert sha256_of(kept) == sha256_of(page)


def test_another_style_of_the_page_scores_again_and_trains_nothing(quiet: Project) -> None:
    quiet.append("tinyllm/report_page/page.css", "h1 { color: red; }\n")
    changed = re.findall(r"^(\w+):$", quiet.dvc("status").stdout, re.MULTILINE)
    assert changed == ["evaluate"]


@pytest.mark.slow
def test_a_correction_of_the_licence_trains_nothing(quiet: Project) -> None:
    weights = sha256_of(quiet.root / "models/tinyllm/model.safetensors")
    quiet.set({"download.licence": "MIT"})
    assert quiet.repro() == STAGES
    assert "license: mit\n" in (quiet.root / "models/tinyllm/README.md").read_text()
    assert sha256_of(quiet.root / "models/tinyllm/model.safetensors") == weights


def test_a_second_repro_runs_nothing(ran: Project) -> None:
    before = ran.outputs()
    assert ran.repro() == []
    assert ran.outputs() == before


@pytest.mark.slow
def test_a_setting_reruns_what_depends_on_it(quiet: Project) -> None:
    quiet.set({"train.learning_rate": 0.02})
    assert quiet.repro() == ["train", "evaluate"]


def test_changed_code_reruns_its_stage_and_no_stage_after_the_same_output(quiet: Project) -> None:
    before = quiet.outputs()
    quiet.append("stages/split.py", "# another comment\n")
    assert quiet.repro() == ["split"]
    assert {name for name, digest in quiet.outputs().items() if before[name] != digest} == {
        "dvc.lock"
    }


@pytest.mark.slow
def test_another_document_reruns_everything(quiet: Project) -> None:
    before = read_json(quiet.root / "data/raw/manifest.json")["documents"]
    (quiet.root / "corpus" / "more").mkdir()
    quiet.append("corpus/more/another.txt", words("another", 40))
    assert quiet.repro() == STAGES
    assert read_json(quiet.root / "data/raw/manifest.json")["documents"] == before + 40


def test_runtime_settings_rerun_nothing(copy: Project) -> None:
    copy.set(
        {
            "runtime.num_workers": 3,
            "runtime.pin_memory": False,
            "runtime.resource_interval": 0.5,
            "runtime.tracker": "none",
            "runtime.experiment": "another",
        }
    )
    assert copy.repro() == []


# Changes of the modules in NO_RESULT that must not affect any output.
OTHER_WAYS = {
    "tinyllm/common/console.py": "cause = str\n",
    "tinyllm/common/unchanged.py": "MadeFrom.__exit__ = lambda *a: None\n",
    "tinyllm/evaluation/record.py": "record = lambda *a: None\n",
    "tinyllm/experiments/provenance.py": "Provenance.tags = lambda self: {'odd': 'tag'}\n",
    "tinyllm/serving/record.py": "record_model = lambda *a: None\n",
    "tinyllm/settings/cross_checks.py": "CROSS_CHECKS.clear()\n",
    "tinyllm/settings/load.py": "WORDS.clear()\n",
    "tinyllm/settings/runtime.py": "Runtime.__doc__ = 'another'\n",
    "tinyllm/settings/strict_yaml.py": "",
    "tinyllm/tracking/journal.py": "Journal.metrics = lambda *a: None\n",
    "tinyllm/training/display/progress.py": "Progress.evaluation = lambda *a: print('evaluated')\n",
    "tinyllm/training/display/resources.py": "Resources.read = lambda self: {'system/odd': 1.0}\n",
    "tinyllm/training/display/watch.py": "Silence.step = Watch.step = lambda *a: None\n",
}


@pytest.mark.slow
def test_display_code_reruns_nothing_and_changes_no_output(copy: Project) -> None:
    for module in NO_RESULT:
        prefix = module.replace(".", "/")
        assert any(name.startswith(prefix) for name in OTHER_WAYS), module
    before = copy.outputs()
    for name, code in OTHER_WAYS.items():
        copy.append(name, f"\n# another way\n{code}")
    assert copy.repro() == []
    shutil.rmtree(copy.root / ".tinyllm", ignore_errors=True)  # so that training runs again
    printed = copy.dvc("repro", "--force").stdout
    assert stages_run(printed) == STAGES
    assert "evaluated" in printed
    assert copy.outputs() == before


def test_two_clones_produce_the_same_bytes(ran: Project, tmp_path: Path) -> None:
    """With different orders of sets, paths, numbers of workers and trackers."""
    root = tmp_path / "a path with spaces"
    ran.run("git", "clone", "--quiet", str(ran.root), str(root))
    other = Project(root, {"PYTHONHASHSEED": "2", "LC_ALL": "C", "TZ": "Asia/Kolkata"})
    other.run("git", "checkout", "--quiet", "HEAD~1")  # before anything had run
    assert other.outputs() == {}
    other.set({"runtime.num_workers": 2, "runtime.tracker": "none"})
    assert other.repro() == STAGES
    assert other.outputs() == ran.outputs()


@pytest.mark.slow
def test_a_hostile_terminal_and_matplotlib_change_nothing(quiet: Project) -> None:
    """As Jupyter and Colab configure every process they start; and an old Windows terminal."""
    picture = quiet.root / "reports" / "evaluate" / "comparison.png"
    before = sha256_of(picture)
    prompts = ["你好 ", "a\0b", "🏃"]
    quiet.set({"evaluate.prompts": prompts})
    (quiet.root / "matplotlibrc").write_text("savefig.dpi: 7\nfont.size: 40\nbackend: TkAgg\n")
    backend = "module://matplotlib_inline.backend_inline"
    hostile = {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "MPLBACKEND": backend}
    done = Project(quiet.root, {**quiet.environment, **hostile}).dvc("repro")
    assert stages_run(done.stdout) == ["evaluate"]
    samples = (quiet.root / "reports" / "evaluate" / "samples.md").read_text(encoding="utf-8")
    assert all(prompt in samples for prompt in prompts)
    assert "\\u4f60\\u597d" in done.stdout
    assert sha256_of(picture) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"train.dropout": 1.5, "train.n_head": 5},
        {"download.source": "nowhere", "evaluate.stride": 1000},
    ],
    ids=["train", "download"],
)
def test_wrong_settings_are_reported_and_change_nothing(
    quiet: Project, wrong: dict[str, object]
) -> None:
    right = (quiet.root / "params.yaml").read_bytes()
    before = quiet.outputs()
    quiet.set(wrong)
    failed = quiet.dvc("repro", check=False)
    assert failed.returncode != 0
    lines = failed.stderr.splitlines()
    first = lines.index(f"error: params.yaml has {len(wrong)} wrong setting(s):")
    for (key, value), line in zip(wrong.items(), lines[first + 1 :], strict=False):
        assert line.startswith(f"{key} = {value!r}: must ")
    assert "Traceback" not in failed.stderr
    assert quiet.outputs() == before

    (quiet.root / "params.yaml").write_bytes(right)
    assert quiet.repro() == []


@pytest.mark.slow
def test_a_queued_experiment_is_sent_to_the_same_mlflow_store(copy: Project) -> None:
    base = copy.run("git", "rev-parse", "HEAD").stdout.strip()
    before = copy.outputs()
    copy.dvc("exp", "run", "--queue", "--name", "faster", "-S", "train.learning_rate=0.02")
    copy.dvc("queue", "start")
    done = copy.dvc("queue", "logs", "--follow", "faster", check=False)
    assert stages_run(done.stdout) == ["train", "evaluate"]
    deadline = time.monotonic() + 60
    while "faster" not in copy.dvc("exp", "list", "--name-only").stdout:
        assert time.monotonic() < deadline
    (run,) = copy.runs()
    assert run.info.run_name == "learning_rate=0.02 (faster)"
    assert run.data.params["train.learning_rate"] == "0.02"
    assert run.data.tags["dvc.experiment"] == "faster"
    assert run.data.tags["dvc.base_revision"] == base
    assert "test/bits_per_byte" in run.data.metrics  # `evaluate` has found the run of `train`
    assert copy.outputs() == before
    assert copy.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_the_score_is_the_first_column_of_dvc_exp_show(copy: Project) -> None:
    copy.set({"runtime.tracker": "none"})
    copy.commit()
    copy.dvc("exp", "run", "-S", "train.learning_rate=0.02")
    table = copy.dvc("exp", "show", "--only-changed", "--csv").stdout
    columns = table.splitlines()[0].split(",")
    shown = [name for name in columns if re.match(r"(test|val|baseline|parameters|steps)", name)]
    assert shown == ["test.bits_per_byte", "test.loss", "test.accuracy", "val.bits_per_byte"]
    before_the_score = [name for name in columns[: columns.index(shown[0])] if name != "rev"]
    assert set(before_the_score) <= {
        "Experiment", "typ", "Created", "parent", "State", "Executor",
    }  # fmt: skip
