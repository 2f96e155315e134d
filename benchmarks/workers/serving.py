"""A worker that generates texts with the library, or asks a server for them.

python -m benchmarks.workers.serving library|server FOLDER|ADDRESS TOKENS PROMPTS SEED
"""

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pairs import serve

if TYPE_CHECKING:
    from tinyllm.generation.text import Completion

PROMPT = "Return the mean of "


def main() -> None:
    kind, model = sys.argv[1:3]
    tokens, prompts, seed = map(int, sys.argv[3:])
    generate = {"library": library, "server": server}[kind](model, tokens, prompts, seed)

    def work() -> float:
        started = time.perf_counter()
        generate()
        return tokens * prompts / (time.perf_counter() - started)

    serve(work)


def library(folder: str, tokens: int, prompts: int, seed: int) -> "Callable[[], list[Completion]]":
    """The function that `tinyllm generate` and the server call."""
    from tinyllm.generation.sampling import Sampling
    from tinyllm.generation.text import TextGenerator
    from tinyllm.models.folder import load_model

    texts = TextGenerator(*load_model(Path(folder)))
    sampling = Sampling(tokens, 0.8, 50)
    return lambda: texts.complete([PROMPT] * prompts, sampling, seed=seed)


def server(address: str, tokens: int, prompts: int, seed: int) -> Callable[[], object]:
    """A request to a server of the same model."""
    params = {"max_new_tokens": tokens, "temperature": 0.8, "top_k": 50, "seed": seed}
    body = json.dumps({"inputs": [PROMPT] * prompts, "params": params}).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", body, kind)
    return lambda: urllib.request.urlopen(request).read()


if __name__ == "__main__":
    main()
