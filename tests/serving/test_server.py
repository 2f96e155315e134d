"""MLflow's real server answers requests with the model's text, and says what is wrong in one."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.serving.evaluations import Evaluations
from tests.tracking.helpers import free_port, wait_until
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.generation.sampling import Sampling
from tinyllm.generation.text import TextGenerator
from tinyllm.models.folder import load_model
from tinyllm.tracking.outbox import sync

pytestmark = pytest.mark.slow

PARAMS = {"max_new_tokens": 6, "seed": 5}
SAMPLING = Sampling(6, 0.8, 50)  # with the defaults of params.yaml


@pytest.fixture(scope="module")
def model(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, tokenizer: Tokenizer
) -> Iterator[tuple[Path, str]]:
    """A registered model: its folder, and the address of its store."""
    root = tmp_path_factory.mktemp("served")
    (root / ".dvc").mkdir()
    (root / "mlflow.db").write_bytes(empty_database.read_bytes())
    uri = f"sqlite:///{root / 'mlflow.db'}"
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(root)
        evaluations = Evaluations(root, tokenizer)
        evaluations.record(register_as="tiny")
        assert sync(0) == 0
    assert Path.cwd() == before
    yield evaluations.model(), uri


@pytest.fixture(scope="module")
def port(model: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of `mlflow models serve`, started outside the project."""
    port, here = free_port(), tmp_path_factory.mktemp("elsewhere")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PYTHONPATH"))}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"  # has uvicorn
    with (here / "log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "mlflow", "models", "serve"),
                *("--model-uri", "models:/tiny@champion", "--env-manager", "local"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=here,
            env=kept | {"MLFLOW_TRACKING_URI": model[1], "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

        def answers() -> bool:
            assert server.poll() is None, (here / "log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    return True
            except OSError:
                return False

        try:
            wait_until(answers, 120, "the server does not answer")
            yield port
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def post(port: int, body: Any) -> tuple[int, Any]:
    """Send a request. Returns the status, and the answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    address = f"http://127.0.0.1:{port}/invocations"
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture(scope="module")
def generator(model: tuple[Path, str]) -> TextGenerator:
    """The library that `tinyllm generate` uses too."""
    return TextGenerator(*load_model(model[0]))


def test_a_seed_gives_the_text_that_the_library_generates(
    port: int, generator: TextGenerator
) -> None:
    prompts = ["the", "", "a longer prompt", "the"]
    texts = [each.text for each in generator.complete(prompts, SAMPLING, seed=5)]
    assert len(set(texts)) == 4
    assert post(port, {"inputs": prompts, "params": PARAMS}) == (200, {"predictions": texts})
    other = post(port, {"inputs": prompts, "params": {**PARAMS, "seed": 6}})
    assert other[0] == 200 and other[1]["predictions"] != texts


def test_every_form_of_the_input_is_accepted(port: int, generator: TextGenerator) -> None:
    texts = [each.text for each in generator.complete(["the", "a"], SAMPLING, seed=5)]
    rows = [{"prompt": "the"}, {"prompt": "a"}]
    forms: list[dict[str, Any]] = [
        {"inputs": ["the", "a"]},
        {"inputs": {"prompt": ["the", "a"]}},
        {"inputs": rows},
        {"instances": ["the", "a"]},
        {"dataframe_records": rows},
        {"dataframe_split": {"columns": ["prompt"], "data": [["the"], ["a"]]}},
    ]
    for form in forms:
        assert post(port, {**form, "params": PARAMS}) == (200, {"predictions": texts}), form
    assert post(port, {"prompt": ["the", "a"], **PARAMS}) == (200, texts)  # as OpenAI's
    assert post(port, {"prompt": "the", **PARAMS}) == (200, texts[:1])
    assert post(port, {"inputs": "the", "params": PARAMS}) == (200, {"predictions": texts[:1]})


def test_a_stop_string_ends_the_text(port: int, generator: TextGenerator) -> None:
    sampling = Sampling(40, 0)
    (whole,) = (each.text for each in generator.complete(["the"], sampling, seed=0))
    stop = whole[len(whole) // 2 :][:3]
    expected = {"predictions": [whole[: whole.index(stop)]]}
    for given in (stop, [stop], ["\0", stop]):
        params = {"max_new_tokens": 40, "temperature": 0, "stop": given}
        assert post(port, {"inputs": ["the"], "params": params}) == (200, expected)


def test_without_a_seed_texts_differ(port: int) -> None:
    request = {"inputs": ["the"], "params": {"max_new_tokens": 30, "temperature": 2.0}}
    assert post(port, request)[1] != post(port, request)[1]


def test_requests_at_the_same_time_do_not_mix(port: int, generator: TextGenerator) -> None:
    def ask(seed: int) -> Any:
        params = {"max_new_tokens": 60, "seed": seed}
        return post(port, {"inputs": ["the", "a"], "params": params})[1]["predictions"]

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(18)))
    sampling = Sampling(60, 0.8, 50)
    for seed, texts in enumerate(found):
        completions = generator.complete(["the", "a"], sampling, seed=seed)
        assert texts == [each.text for each in completions]


def wrong(**params: Any) -> dict[str, Any]:
    return {"inputs": ["the"], "params": params}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": {"text": ["the"]}}, "columns: 'text'; there must be one, 'prompt'"),
        ({"dataframe_records": [{"prompt": "a", "top_k": 1}]}, "columns: 'prompt', 'top_k'"),
        ({"prompt": "the", "tempature": 1}, "columns: 'prompt', 'tempature'"),
        ({"inputs": [5]}, "prompt 0: must be text, not int (5)"),
        ({"inputs": ["the", None]}, "prompt 1: must be text, not NoneType"),
        ({"inputs": 5}, "prompt 0: must be text, not int"),
        ({"dataframe_split": {"columns": ["prompt"], "data": [[5]]}}, "prompt 0: must be text"),
        ({"instances": [{"prompt": 5}]}, "prompt 0: must be text"),
        ({"inputs": []}, "no prompt: the list is empty"),
        ({"dataframe_records": []}, "columns: none"),
        ({"inputs": ["\ud800"]}, "surrogate"),
        (wrong(temperature=-1), "temperature = -1: must be a number from 0 on"),
        (wrong(temperature=None), "temperature = None: must be a number"),
        (wrong(tempature=1), "tempature: no such parameter; there are max_new_tokens"),
        (wrong(max_new_tokens=0), "max_new_tokens = 0: must be a whole number from 1 to 10,000"),
        (wrong(max_new_tokens=10_001), "max_new_tokens = 10001: must be"),
        (wrong(max_new_tokens=1.5), "max_new_tokens = 1.5: must be a whole number"),
        (wrong(max_new_tokens=True), "max_new_tokens = True: must be a whole number"),
        (wrong(max_new_tokens="5"), "max_new_tokens = 5: must be a whole number"),
        (
            wrong(top_k=0, top_p=2),
            "top_k = 0: must be a whole number from 1 on, or null; top_p = 2",
        ),
        (wrong(seed=2**70), "seed = "),
        (wrong(stop=[""]), "stop = ['']: must be a string or a list of strings"),
        (wrong(stop=5), "stop = 5: must be a string"),
        ({"inputs": ["the"], "params": [1]}, "params: must be an object, not list"),
        ({"texts": ["the"]}, "The input must be a JSON dictionary"),
        (b"not JSON", "valid JSON"),
    ],
)
def test_a_malformed_request_is_refused_with_the_reason(port: int, body: Any, message: str) -> None:
    status, answer = post(port, body)
    assert (status, message in answer["message"]) == (400, True), answer
    assert post(port, {"inputs": ["the"], "params": PARAMS})[0] == 200
