"""Shared fixtures: a small corpus, a small tokenizer, a pipeline that has run, a clean torch."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import helpers
from tests.helpers import ARITHMETICS, ROOT, Arithmetic, make_documents
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.models import formulas
from tinyllm.models.registry import ARCHITECTURES
from tinyllm.tracking.mlflow.database import prepare

# The modules with fixtures that several packages share.
pytest_plugins = ("tests.pipeline", "tests.experiments.runs_project", "tests.tracking.fixtures")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--arithmetic",
        choices=[str(each) for each in ARITHMETICS],
        default=str(ARITHMETICS[0]),
        help="arithmetic of the whole trainings in tests that don't use the fixture arithmetic",
    )


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """A few hundred short documents, the same every time."""
    return make_documents(300, seed=1)


@pytest.fixture(scope="session")
def tokenizer(documents: list[str]) -> Tokenizer:
    """A tokenizer with 320 tokens, trained on the documents."""
    return Tokenizer.train(documents, 320)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database without runs; creating one takes seconds."""
    database = tmp_path_factory.mktemp("template") / "mlflow.db"
    prepare(f"sqlite:///{database}")
    return database


@pytest.fixture(params=ARITHMETICS, ids=str)
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Arithmetic:
    """Each precision, with the CPU kernels and with the formulas that a GPU runs."""
    chosen: Arithmetic = request.param
    monkeypatch.setattr(helpers, "DTYPE", chosen.dtype)
    if chosen.plain:
        monkeypatch.setattr(formulas, "uses_cpu_kernels", lambda _: False)
    return chosen


@pytest.fixture(params=[*ARCHITECTURES, "olmo"])
def architecture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each architecture of the registry, and an added one, for the models that a test makes."""
    monkeypatch.setitem(ARCHITECTURES, "olmo", "tests.models.olmo:Olmo")
    monkeypatch.setattr(helpers, "ARCHITECTURE", request.param)
    name: str = request.param
    return name


@pytest.fixture
def tiktoken_cache(monkeypatch: pytest.MonkeyPatch) -> Path:
    """GPT-2's vocabulary in tiktoken's cache; skips the test if it is missing."""
    folder = Path(os.environ.get("TIKTOKEN_CACHE_DIR") or ROOT.parent / "shared/data/tiktoken")
    if not folder.is_dir():
        pytest.skip("GPT-2's vocabulary is not in TIKTOKEN_CACHE_DIR, and tests use no network")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def signals_as_usual() -> None:
    """Reset signals that are ignored under `nohup` or in a shell's background."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def environment_as_it_was() -> Iterator[None]:
    """Undo what a test sets for its process: the environment and the current folder."""
    before, folder = dict(os.environ), Path.cwd()
    yield
    os.chdir(folder)
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """Undo what a test sets for the whole process.

    Tests use one thread: a second one does not speed up models this small, and slows them down if
    other processes use the processor (19 s instead of 0.3 s for one test).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)
