"""Measure what 8 bits per weight cost: size and bits per byte on the test split.

python -m benchmarks.quantization [--model models/tinyllm] [--test data/splits/test]
                                  [--stride 32] [--llama-cpp TOKENS]

Exports the model, reads the weights back with the package `gguf`, and scores them as `evaluate`
does. With --llama-cpp, llama.cpp itself predicts the first TOKENS tokens, one request for each
(needs the extra `ecosystem`); it also rounds activations to 8 bits, which the other score lacks.
"""

import argparse
import json
import math
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from tinyllm.data.token_store import Tokens, read_split
from tinyllm.data.tokenizer import Tokenizer
from tinyllm.evaluation.scores import make_windows, score
from tinyllm.export.facts import Facts
from tinyllm.export.gguf import architecture_of, tensors_of, write_gguf
from tinyllm.models.folder import load_model
from tinyllm.models.huggingface import weights_from_hf, weights_to_hf
from tinyllm.models.model import Model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/tinyllm"))
    parser.add_argument("--test", type=Path, default=Path("data/splits/test"))
    parser.add_argument("--stride", type=int, default=32, help="as evaluate.stride")
    parser.add_argument("--llama-cpp", type=int, default=0, metavar="TOKENS")
    args = parser.parse_args()
    model, tokenizer = load_model(args.model)
    tokens = read_split(args.test).tokens
    windows = make_windows(
        tokens,
        tokenizer.token_bytes(),
        tokenizer.end_of_text,
        model.config.context_length,
        stride=args.stride,
    )
    print(
        f"| | MB | bits per byte, weights read back | of {args.llama_cpp} tokens, by llama.cpp |\n"
        "|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for quantize in (None, "q8_0"):
            path = Path(folder, f"{quantize}.gguf")
            write_gguf(path, model, tokenizer, Facts("model"), "", quantize)
            network, _ = load_model(args.model)
            put_back(path, network)
            ours = score(network, windows).bits_per_byte
            theirs = "-"
            if args.llama_cpp:
                theirs = f"{by_llama_cpp(path, tokenizer, tokens, args.llama_cpp):.4f}"
            size = path.stat().st_size / 1e6
            print(f"| {quantize or 'fp32'} | {size:.2f} | {ours:.4f} | {theirs} |", flush=True)


def put_back(path: Path, model: Model) -> None:
    """Replace a model's weights by those of a GGUF file, which has them under other names.

    Only for architectures whose rows llama.cpp does not reorder.
    """
    architecture = architecture_of(model)
    assert architecture != gguf.MODEL_ARCH.LLAMA, "its rows are reordered"
    found = {
        each.name: gguf.quants.dequantize(each.data, each.tensor_type)
        for each in gguf.GGUFReader(path).tensors
    }
    exact = tensors_of(model, architecture, gguf.GGMLQuantizationType.F32)
    theirs = weights_to_hf(model.state_dict(), model.hf_names())
    weights = {
        name: torch.from_numpy(np.array(found[tensor.name]))
        for name, tensor in zip(theirs, exact, strict=True)
    }
    model.load_state_dict(weights_from_hf(weights, model.state_dict(), model.hf_names()))


def by_llama_cpp(path: Path, tokenizer: Tokenizer, tokens: Tokens, count: int) -> float:
    """Bits per byte of llama.cpp's predictions of the first tokens.

    The context is what precedes a token in windows of the model's context, half of them new.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.n_gpu_layers = str(path), 0, 0
    params.n_parallel, params.warmup = 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # for a model this small
    server = xllamacpp.Server(params)
    context = _post(server.listening_address, "/props")["default_generation_settings"]["n_ctx"]
    stream = [tokenizer.end_of_text, *tokens[:count].tolist()]
    nats, half = 0.0, (context - 1) // 2  # the server needs room for an answer
    for place in range(1, len(stream)):
        begin = max(0, (place - 1) // half * half - half)
        answer = _post(
            server.listening_address,
            "/completion",
            prompt=stream[begin:place],
            n_predict=1,
            n_probs=tokenizer.vocab_size,
            temperature=0,
        )
        top = answer["completion_probabilities"][0]["top_logprobs"]
        nats -= next(each["logprob"] for each in top if each["id"] == stream[place])
    size = int(tokenizer.token_bytes()[tokens[:count]].sum())
    return nats / math.log(2) / size


def _post(address: str, path: str, **body: Any) -> Any:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
