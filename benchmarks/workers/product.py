"""What the machine multiplies at best: large square bf16 matrices, in FLOP/s."""

import time

import torch

from benchmarks.pairs import serve
from tinyllm.common.processes import available_cores

SIZE = 2048


def main() -> None:
    torch.set_num_threads(available_cores())
    a = torch.randn(SIZE, SIZE).to(torch.bfloat16)

    def work() -> float:
        started = time.perf_counter()
        for _ in range(5):
            a @ a
        return 5 * 2 * SIZE**3 / (time.perf_counter() - started)

    serve(work)


if __name__ == "__main__":
    main()
