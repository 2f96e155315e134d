"""Runs matrix products only: upper limits of the machine's speed, and of a training step's.

By default large square matrices in bf16, in FLOP/s. With a shape, only the products of the
network's linear layers, in tokens/s, without attention, norms, loss and optimizer. No program that
computes the same network in that precision can be faster.
"""

import time
from collections.abc import Callable

import torch

from benchmarks.pairs import serve
from benchmarks.workers.shapes import Shape, parser
from tinyllm.common.os_processes import available_cores

SIZE = 2048
PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


def main() -> None:
    options = parser()
    options.add_argument("--work", choices=["train", "score"], default="train")
    options.add_argument("--precision", choices=PRECISIONS, default="bf16")
    args = options.parse_args()
    torch.set_num_threads(available_cores())
    dtype = PRECISIONS[args.precision]
    if args.shape is None:
        a = torch.randn(SIZE, SIZE).to(dtype)
        serve(lambda: speed(lambda: a @ a, 5, 2 * SIZE**3))
    else:
        once = linear_layers(args.shape, dtype, backward=args.work == "train")
        serve(lambda: speed(once, args.steps, args.shape.tokens))


def speed(once: Callable[[], object], times: int, amount: float) -> float:
    """The amount of work per second, if each call does `amount`."""
    started = time.perf_counter()
    for _ in range(times):
        once()
    return times * amount / (time.perf_counter() - started)


def linear_layers(shape: Shape, dtype: torch.dtype, backward: bool) -> Callable[[], None]:
    """The products of a batch: for each layer one forward, and two for the gradient."""
    C, N = shape.d_model, shape.tokens
    sizes = [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * shape.n_layer + [(C, shape.vocab_size)]
    layers = [
        (torch.randn(N, i).to(dtype), torch.randn(o, i).to(dtype), torch.randn(N, o).to(dtype))
        for i, o in sizes
    ]

    def once() -> None:
        for x, weight, _ in layers:
            x @ weight.t()
        for x, weight, grad in layers if backward else ():
            grad @ weight
            grad.t() @ x

    return once


if __name__ == "__main__":
    main()
