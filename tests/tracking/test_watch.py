"""The contents of a training run in MLflow, from its first step to its model."""

import json
from pathlib import Path

import pytest
from numpy.lib.format import open_memmap

from tests.helpers import ROOT, random_model, windows_of
from tests.tracking.helpers import Project, events
from tinyllm.common.fingerprint import Fingerprint
from tinyllm.compute import choose
from tinyllm.data.splits_summary import SplitsSummary
from tinyllm.data.token_store import SplitSummary, TokenSplit
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.scores import Scores
from tinyllm.models.folder import WEIGHTS, save_model
from tinyllm.settings.load import Params, load_params
from tinyllm.tracking.origin import Origin
from tinyllm.tracking.outbox import sync
from tinyllm.training.checkpoints.resume import resumable
from tinyllm.training.data import TrainingData
from tinyllm.training.dataset import Batches
from tinyllm.training.display.watch import watch
from tinyllm.training.history import TRAIN, VALIDATION
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

SCORES = {
    TRAIN: Scores(loss=2.0, bits_per_byte=1.0, accuracy=0.25, tokens=100),
    VALIDATION: Scores(loss=800.0, bits_per_byte=400.0, accuracy=0.0, tokens=100),
}
ORIGIN = Origin(
    tags={"git.dirty": "true"}, commands="make it again", remarks=("By hand.",), patch=b"a patch"
)


@pytest.fixture
def params() -> Params:
    loaded = load_params(ROOT / "params.yaml")
    hardware = loaded.hardware.model_copy(update={"device": "cpu", "threads": 1})
    return loaded.model_copy(update={"hardware": hardware})


def data(folder: Path, tokenizer: Tokenizer) -> TrainingData:
    tokens = open_memmap(folder / "tokens.npy", "w+", dtype="uint16", shape=(200,))
    splits = {
        name: TokenSplit(folder / name, tokens, SplitSummary(3, 200, 900, 61, digit * 64))
        for name, digit in ((TRAIN, "a"), (VALIDATION, "b"))
    }
    windows = windows_of(tokens)
    return TrainingData(
        tokenizer=tokenizer,
        summary=SplitsSummary(None, {name: split.summary for name, split in splits.items()}),
        splits=splits,
        model_config=random_model().config,
        training=Batches(tokens, 16, 8, seed=1),
        evaluation={TRAIN: windows, VALIDATION: windows},
    )


@pytest.mark.usefixtures("no_follower")
def test_a_training_run_in_mlflow(project: Project, params: Params, tokenizer: Tokenizer) -> None:
    model_folder, reports = project.root / "models" / "mine", project.root / "reports" / "train"
    reports.mkdir(parents=True)
    (reports / "loss.png").write_text("a picture")
    best = {"steps": 21, "saved_step": 14, "val": {"loss": 1.5, "bits_per_byte": 0.7}}
    (reports / "summary.json").write_text(json.dumps(best))
    compute = choose(params.hardware)
    model = random_model()
    save_model(model_folder, model, tokenizer)
    state = TrainState(model, make_optimizer(model, params.train))
    opened = data(project.root, tokenizer)
    fingerprint = Fingerprint({"seed": "1337"})
    with (
        resumable(state, fingerprint, compute, params) as saver,
        watch(state, opened, compute, params, saver.bookmark, ORIGIN) as watcher,
    ):
        for step in range(21):
            watcher.step(step, {"loss": 1.0 / (step + 1), "learning_rate": 0.1, "grad_norm": 2.0})
        watcher.evaluation(21, SCORES, best=True)
        watcher.keep(model_folder, reports)
    lines = events(project.journals[0])
    assert sync(0) == 0

    (run,) = project.runs().values()
    points = project.points(run)
    for name, steps in {
        "loss/batch": range(21),
        "train/grad_norm": range(21),
        "train/learning_rate": range(21),
        "train/tokens_per_second": range(21),
        "bits_per_byte/train": [21],
        "val/perplexity": [21],  # infinite in this run
        "best/loss": [0],
    }.items():
        assert [step for key, step in points if key == name] == list(steps)
    assert {"run", "metrics", "tags", "file", "end"} == {line["kind"] for line in lines}

    saved = {name: v for name, v in run.data.metrics.items() if name.startswith("best/")}
    assert saved == {"best/loss": 1.5, "best/bits_per_byte": 0.7}
    assert run.data.metrics["train/saved_step"] == 14
    assert run.info.run_name == "2x32-0.0M-seed1337"
    assert run.data.params["train.max_steps"] == str(params.train.max_steps)
    assert run.data.params["resolved.decay_steps"] == str(params.train.max_steps)
    assert run.data.params["resolved.device"] == "cpu"
    assert not [name for name in run.data.params if name.startswith("evaluate.")]
    assert run.data.tags["git.dirty"] == "true"
    note = run.data.tags["mlflow.note.content"].split("\n\n")
    assert note[0] == "```sh\nmake it again\n```" and note[2:] == ["By hand."]
    assert note[1].startswith("2 layers of width 32")
    assert len(run.data.tags["tinyllm.model_sha256"]) == 64
    inputs = {
        i.dataset.name: (i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs
    }
    assert inputs == {
        "train split": ("a" * 32, "training"),
        "val split": ("b" * 32, "validation"),
    }
    artifacts = project.root / "mlartifacts" / run.info.run_id / "artifacts"
    kept = {
        path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()
    }
    assert kept >= {f"model/{WEIGHTS}", "reports/train/loss.png", "changes.patch"}
