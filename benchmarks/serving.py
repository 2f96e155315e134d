"""Compare texts from MLflow's server with the same texts from the library.

python -m benchmarks.serving [--rounds 20] [--threads 1] [--tokens 200] [--prompts 1]

Takes the model that was logged last in the project's MLflow store (`dvc repro` logs one). The
server and the library run in two processes with the same number of threads, and take turns; they
generate the same tokens. Prints tokens per second, and how much time the server adds.
"""

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.pairs import alternate
from benchmarks.workers.serving import library
from tinyllm.common.files import project_root
from tinyllm.tracking.mlflow.environment import set_up_mlflow

PORT = 5011
PATIENCE = 300.0  # seconds until the server answers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of a text")
    parser.add_argument("--prompts", type=int, default=1, help="texts at once")
    args = parser.parse_args()
    set_up_mlflow(project_root())
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    uri, folder = latest_model()
    print(f"{uri}, {args.prompts} x {args.tokens} tokens, {args.threads} threads")
    size = args.tokens, args.prompts, seed_of_long_texts(folder, args.tokens, args.prompts)
    with server(uri) as address:
        ours, peer = ("serving", "server", address, *size), ("serving", "library", folder, *size)
        found = alternate(ours, peer, args.rounds)
    print(
        f"server {found.ours:,.0f} tokens/s, library {found.peer:,.0f} tokens/s; the server takes "
        f"{1 / found.ratio:.3f} of the time (quartiles {1 / found.high:.3f} to {1 / found.low:.3f})"
    )


@contextmanager
def server(uri: str) -> Iterator[str]:
    """The address of a server of a model, which ends with the context."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri]
    # MLflow starts `uvicorn` by its name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(PORT)],
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": path},
            process_group=0,  # but in this session: Linux may give each session the same share
        )
        address, deadline = f"http://127.0.0.1:{PORT}", time.monotonic() + PATIENCE
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise SystemExit(f"the server did not start:\n{log.read()}") from None
                    time.sleep(0.2)
            yield address
        finally:
            with suppress(ProcessLookupError):  # it did not start
                os.killpg(process.pid, signal.SIGKILL)


def latest_model() -> tuple[str, str]:
    """The address of the model that was logged last, and its model folder.

    Raises:
        SystemExit: there is none.
    """
    from mlflow import MlflowClient, artifacts

    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    order = [{"field_name": "creation_timestamp", "ascending": False}]
    found = client.search_logged_models(experiments, max_results=1, order_by=order)
    if not found:
        raise SystemExit("MLflow has no model: run `dvc repro` first")
    uri = f"models:/{found[0].model_id}"
    folder = artifacts.download_artifacts(uri)
    return uri, str(Path(folder, "artifacts", "model"))


def seed_of_long_texts(folder: str, tokens: int, prompts: int) -> int:
    """The first seed with which no text ends before that many tokens."""
    return next(
        seed
        for seed in itertools.count(1)
        if all(len(text.tokens) == tokens for text in library(folder, tokens, prompts, seed)())
    )


if __name__ == "__main__":
    main()
