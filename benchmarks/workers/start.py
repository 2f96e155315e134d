"""Measures how fast a Python program starts, in starts per second."""

import subprocess
import sys
import time

from benchmarks.pairs import serve
from benchmarks.workers.shapes import parser


def main() -> None:
    options = parser()
    options.add_argument("words", nargs="+", help="arguments of Python")
    words = options.parse_args().words

    def work() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        return 1 / (time.perf_counter() - started)

    serve(work)


if __name__ == "__main__":
    main()
