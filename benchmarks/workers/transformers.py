"""Generates with transformers from a model folder: fp32, its cache, its `generate`."""

import argparse
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.pairs import serve


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--model", type=Path, required=True, help="a model folder")
    options.add_argument("--prompt", type=int, required=True, help="id of the prompt's token")
    options.add_argument("--tokens", type=int, required=True, help="tokens to generate")
    options.add_argument("--sequences", type=int, default=1, help="texts to generate at once")
    args = options.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    prompts = torch.full((args.sequences, 1), args.prompt)

    def work() -> float:
        started = time.perf_counter()
        found = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=0.8,
            top_k=50, min_new_tokens=args.tokens, max_new_tokens=args.tokens, pad_token_id=0,
        )  # fmt: skip
        assert found.shape == (args.sequences, 1 + args.tokens)
        return args.sequences * args.tokens / (time.perf_counter() - started)

    serve(work)


if __name__ == "__main__":
    main()
