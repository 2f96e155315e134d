"""Runs nanoGPT from a checkout with its CPU defaults: fp32, not compiled, its model and optimizer.

The loop is that of its train.py: random windows of a memory-mapped file, forward, backward,
clipping at 1, step, and reading the loss for the log.
"""

import importlib
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.pairs import serve
from benchmarks.workers.shapes import Shape, parser


def main() -> None:
    options = parser()
    options.add_argument("--checkout", required=True)
    options.add_argument("--work", choices=["train", "score", "generate"], default="train")
    options.add_argument("--sequences", type=int, default=1, help="texts to generate at once")
    args = options.parse_args()
    shape: Shape = args.shape
    sys.path.insert(0, args.checkout)
    nanogpt = importlib.import_module("model")
    torch.manual_seed(1337)
    config = nanogpt.GPTConfig(
        block_size=shape.context_length, vocab_size=shape.vocab_size, n_layer=shape.n_layer,
        n_head=shape.n_head, n_embd=shape.d_model, dropout=0.0, bias=False,
    )  # fmt: skip
    model = nanogpt.GPT(config)
    work = {"train": training, "score": scoring, "generate": generation}[args.work]
    serve(lambda: work(model, shape, args))


def batch(text: np.ndarray, shape: Shape) -> tuple[Tensor, Tensor]:
    starts = torch.randint(len(text) - shape.context_length, (shape.batch_size,)).tolist()
    length = shape.context_length
    x = torch.stack([torch.from_numpy(text[i : i + length].astype(np.int64)) for i in starts])
    y = torch.stack(
        [torch.from_numpy(text[i + 1 : i + 1 + length].astype(np.int64)) for i in starts]
    )
    return x, y


def training(model: Any, shape: Shape, args: Any) -> float:
    if not hasattr(model, "optimizer"):
        model.optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    text = shape.text().numpy().astype(np.uint16)
    started = time.perf_counter()
    for _ in range(args.steps):
        _, loss = model(*batch(text, shape))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        model.optimizer.step()
        model.optimizer.zero_grad(set_to_none=True)
        loss.item()
    return args.steps * shape.tokens / (time.perf_counter() - started)


@torch.no_grad()
def scoring(model: Any, shape: Shape, args: Any) -> float:
    """Score like its estimate_loss: batches of the training's size, one loss at a time."""
    model.eval()
    text = shape.text().numpy().astype(np.uint16)
    started = time.perf_counter()
    for _ in range(args.steps):
        _, loss = model(*batch(text, shape))
        loss.item()
    return args.steps * shape.tokens / (time.perf_counter() - started)


def generation(model: Any, shape: Shape, args: Any) -> float:
    model.eval()
    prompt = torch.zeros(args.sequences, 1, dtype=torch.int64)
    count = shape.context_length - 1
    started = time.perf_counter()
    model.generate(prompt, count, temperature=0.8, top_k=50)
    return args.sequences * count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
