"""Generates with llama.cpp in this process (package xllamacpp): keys and values in fp32, like ours.

`tinyllm export FILE` makes a GGUF file of a model.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xllamacpp

from benchmarks.pairs import serve


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--gguf", type=Path, required=True)
    options.add_argument("--prompt", type=int, required=True, help="id of the prompt's token")
    options.add_argument("--tokens", type=int, required=True, help="tokens to generate")
    options.add_argument("--sequences", type=int, default=1, help="texts to generate at once")
    options.add_argument("--threads", type=int, default=1)
    args = options.parse_args()
    running = server(args.gguf, args.sequences, args.tokens + 2, args.threads)
    wanted = {"prompt": [args.prompt], "n_predict": args.tokens, "temperature": 0.8, "top_k": 50,
              "top_p": 1.0, "min_p": 0.0, "samplers": ["top_k", "temperature"],
              "ignore_eos": True, "cache_prompt": False}  # fmt: skip

    def generated(seed: int) -> int:
        answer: dict[str, Any] = running.handle_completions(wanted | {"seed": seed})
        return int(answer["usage"]["completion_tokens"])

    with ThreadPoolExecutor(args.sequences) as texts:

        def work() -> float:
            started = time.perf_counter()
            return sum(texts.map(generated, range(args.sequences))) / (
                time.perf_counter() - started
            )

        serve(work)


def server(path: Path, sequences: int, context_length: int, threads: int) -> Any:
    """llama.cpp with a model."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.port = 0  # any free one
    params.n_gpu_layers = 0
    params.n_parallel = sequences
    params.n_ctx = sequences * context_length
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
