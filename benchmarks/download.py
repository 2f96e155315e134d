"""Compare a download from a local web server with curl.

python -m benchmarks.download [--size 1000000000] [--pairs 9] [--folder FOLDER]

The two take turns. Ours computes the SHA-256 of all bytes and curl does not, so the table also has
a row for curl followed by `sha256sum` and `sync`. The ratio is the median of the pairs' ratios.
"""

import argparse
import http.server
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tinyllm.data.sources.fetch import Patience, fetch

NAME = "random.bin"
GOAL = 0.8


class Server(http.server.SimpleHTTPRequestHandler):
    """Sends the only file with `sendfile`, so that the server is not the bottleneck."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file (overrides a loop over 64 kB in Python)."""
        outputfile.flush()
        left, offset = os.fstat(source.fileno()).st_size, 0
        while left:
            sent = os.sendfile(self.connection.fileno(), source.fileno(), offset, left)
            offset, left = offset + sent, left - sent

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def serve(folder: Path, port: Connection) -> None:
    os.chdir(folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        port.send(server.server_port)
        server.serve_forever()


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10**9, help="bytes")
    parser.add_argument("--pairs", type=int, default=9, help="rounds in which each runs once")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        with (folder / NAME).open("wb") as file:
            for start in range(0, args.size, 1 << 20):
                file.write(os.urandom(min(1 << 20, args.size - start)))
        here, there = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(folder, there), daemon=True)
        server.start()
        url = f"http://127.0.0.1:{here.recv()}/{NAME}"
        try:
            table = compare(url, folder, args.size, args.pairs)
        finally:
            server.terminate()
    print(f"{args.size / 1e6:,.0f} MB, {args.pairs} rounds, MB/s\n")
    print(*table, sep="\n")


def compare(url: str, folder: Path, size: int, pairs: int) -> list[str]:
    """Download with each program in turn. Returns the lines of a table."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    target, downloads = folder / "curl", folder / "downloads"

    def curl() -> None:
        subprocess.run(["curl", "--silent", "--fail", "--output", target, url], check=True)

    def curl_verified() -> None:
        curl()
        subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["sync", target], check=True)

    def ours() -> None:
        fetch(url, downloads, sha256=None, most=size, patience=Patience())

    lines = ["| peer | its MB/s | ours | ours to it | goal |", "|---|---|---|---|---|"]
    for name, peer, goal in (
        ("curl", curl, f"≥ {GOAL}"),
        ("curl, sha256sum, sync", curl_verified, ""),
    ):
        rounds: list[tuple[float, float]] = []  # seconds of ours and of the peer
        for number in range(pairs + 1):
            times = {}
            for work in (ours, peer) if number % 2 else (peer, ours):
                os.sync()  # so that writes of the previous program are not timed
                times[work] = seconds(work)
                for path in (target, *downloads.glob("*/?*")):
                    path.unlink(missing_ok=True)
            rounds.append((times[ours], times[peer]))
        del rounds[0]  # warm-up
        ratio = statistics.median(theirs / own for own, theirs in rounds)
        own, theirs = (size / statistics.median(each) / 1e6 for each in zip(*rounds, strict=True))
        lines.append(f"| {name} | {theirs:,.0f} | {own:,.0f} | {ratio:.2f} | {goal} |")
    return lines


if __name__ == "__main__":
    main()
