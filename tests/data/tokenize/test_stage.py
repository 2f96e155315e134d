"""Kill the stage or its workers: no partial output, no process left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from tests.helpers import ROOT
from tinyllm.data.sources.corpus import fetch_corpus
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import load_params

WORDS = ("the", "cat", "sat", "on", "a", "mat", "while", "dog", "ran", "over", "old", "hills")

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one core: the stage starts no workers"
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a project with a corpus that is large enough for two workers."""
    root = tmp_path_factory.mktemp("stage")
    params = strict_yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["download"] |= {"source": "path", "path": str(root / "text"), "separator": "\n--\n"}
    params["tokenize"]["sample_bytes"] = 100_000
    params["split"]["near_duplicates"] = 0
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    chance = random.Random(1)
    documents = (" ".join(chance.choices(WORDS, k=2000)) for _ in range(1400))
    (root / "text").write_text("\n--\n".join(documents), encoding="utf-8")
    (root / "raw").mkdir()
    fetch_corpus(load_params(root / "params.yaml").download, root / "raw", root / "downloads")
    return root


@contextmanager
def stage(raw: Path, out: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run the stage."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "stages.tokenize", "--params", raw / "params.yaml",
            "--raw", raw / "raw", "--tokenizer", out / "tokenizer", "--tokens", out / "tokens",
            "--reports", out / "reports",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def workers_of(process: "subprocess.Popen[str]", out: Path) -> list[psutil.Process]:
    """Return the stage's two workers once they encode."""
    deadline = time.monotonic() + 60
    while not list(out.glob(".tokens.*.tmp/documents.npy")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def kill_worker(_: int, workers: list[psutil.Process]) -> None:
    workers[1].kill()


def interrupt(stage: int, workers: list[psutil.Process]) -> None:
    """Send Ctrl-C to all processes."""
    for one in (*workers, psutil.Process(stage)):
        one.send_signal(signal.SIGINT)


Deed = Callable[[int, list[psutil.Process]], None]


@pytest.mark.parametrize(
    ("deed", "status", "message"),
    [
        (kill_worker, 1, "error: one of 2 worker processes was killed, possibly out of memory"),
        (interrupt, 130, "interrupted"),
    ],
)
def test_a_failed_stage_prints_one_line_and_leaves_nothing(
    raw: Path, tmp_path: Path, deed: Deed, status: int, message: str
) -> None:
    with stage(raw, tmp_path) as process:
        workers = workers_of(process, tmp_path)
        deed(process.pid, workers)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (status, message)
    assert list(tmp_path.iterdir()) == []
    assert not psutil.wait_procs(workers, timeout=20)[1]


def test_a_killed_stage_leaves_no_worker_and_the_next_cleans_up(raw: Path, tmp_path: Path) -> None:
    with stage(raw, tmp_path) as process:
        workers = workers_of(process, tmp_path)
        process.kill()
        assert not psutil.wait_procs(workers, timeout=20)[1]
    assert len(list(tmp_path.iterdir())) == 4  # its temporary folders
    with stage(raw, tmp_path) as process:
        printed, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert "tokens, " in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reports", "tokenizer", "tokens"]
