"""A worker that generates texts with the library, or asks a server for them.

python -m benchmarks.workers.serving library|server FOLDER|ADDRESS TOKENS PROMPTS
"""

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from benchmarks.pairs import serve

PROMPT = "Return the mean of "


def main() -> None:
    kind, model, tokens, prompts = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    generate = {"library": library, "server": server}[kind](model, tokens, [PROMPT] * prompts)

    def work() -> float:
        started = time.perf_counter()
        generate()
        return tokens * prompts / (time.perf_counter() - started)

    serve(work)


def library(folder: str, tokens: int, prompts: list[str]) -> Callable[[], object]:
    """The function that `tinyllm generate` and the server call."""
    from tinyllm.generation.sampling import Sampling
    from tinyllm.generation.text import TextGenerator
    from tinyllm.models.folder import load_model

    texts = TextGenerator(*load_model(Path(folder)))
    sampling = Sampling(tokens, 0.8, 50)
    return lambda: texts.complete(prompts, sampling, seed=1)


def server(address: str, tokens: int, prompts: list[str]) -> Callable[[], object]:
    """A request to a server of the same model."""
    params = {"max_new_tokens": tokens, "temperature": 0.8, "top_k": 50, "seed": 1}
    body = json.dumps({"inputs": prompts, "params": params}).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", body, kind)
    return lambda: urllib.request.urlopen(request).read()


if __name__ == "__main__":
    main()
