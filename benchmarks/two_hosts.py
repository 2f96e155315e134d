"""Compare training on two hosts, simulated by network namespaces, with training on one.

python -m benchmarks.two_hosts [--processes 1]

Each host has its own folder and network (a pair of virtual cables connects them) and runs the
user's commands. It checks that both hosts together produce the same bytes as the same number of
processes on one host, that killing a process on the second host ends both, and that a rerun resumes
from the checkpoint. Needs Linux, root and iproute2. Exits with status 1 if anything differs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.helpers import ROOT
from tests.training.project import (
    TRAIN,
    change,
    checkpoint_steps,
    final_state,
    prepare,
    resumed_at,
)

ADDRESSES = ("10.213.0.1", "10.213.0.2")
LIMIT = 600.0  # seconds for a training


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--processes", type=int, default=1, help="processes per host")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, two_hosts() as hosts:
        alone = Path(folder, "alone")
        prepare(alone)
        shutil.copyfile(ROOT / "dvc.yaml", alone / "dvc.yaml")
        places = [Path(shutil.copytree(alone, Path(folder, host))) for host in hosts]
        change(alone, {"processes": str(2 * args.processes)})
        for place in places:
            change(place, {"processes": str(args.processes), "nodes": "2"})
        expect(end_of(training(alone)), 0, "one host")

        first, second = start(hosts, places)
        while not checkpoint_steps(places[0]):
            time.sleep(0.01)
        psutil.Process(second.pid).children()[0].kill()
        printed = expect(end_of(second), 1, "the host with the killed process")
        assert "was killed by SIGKILL" in printed, printed
        printed = expect(end_of(first), 1, "the other host")
        assert "a process on another machine exited" in printed, printed

        first, second = start(hosts, places)
        expect(end_of(second), 0, "the second host")
        step = resumed_at(expect(end_of(first), 0, "the first host"))
        same = final_state(places[0]) == final_state(alone)
        assert not (places[1] / "models").exists()
    print(f"killed, resumed at step {step}; the same bytes as on one host: {same}")
    sys.exit(not same)


def start(hosts: list[str], places: list[Path]) -> list["subprocess.Popen[str]"]:
    """Start training on the first host, and join it on the second."""
    join = ["-m", "tinyllm", "join", ADDRESSES[0], "1"]
    return [
        training(places[0], hosts[0], MASTER_ADDR=ADDRESSES[0]),
        training(places[1], hosts[1], command=join),
    ]


def training(
    place: Path, host: str | None = None, command: list[str] | None = None, **variables: str
) -> "subprocess.Popen[str]":
    """Start a training in a folder, on a host."""
    inside = ["ip", "netns", "exec", host] if host else []
    return subprocess.Popen(
        [*inside, sys.executable, *(command or ["-m", "stages.train", *TRAIN])],
        cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(place)} | variables,
    )  # fmt: skip


def end_of(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for a process. Returns its exit status and output."""
    try:
        printed, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, printed


def expect(end: tuple[int, str], status: int, who: str) -> str:
    assert end[0] == status, f"{who} exited with status {end[0]}:\n{end[1]}"
    return end[1]


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """Create two network namespaces that reach only each other."""
    names = [f"tinyllm{os.getpid()}-{number}" for number in (0, 1)]
    cables = [f"tl{os.getpid()}-{number}"[:15] for number in (0, 1)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cables[0], "netns", names[0], "type", "veth",
           "peer", "name", cables[1], "netns", names[1])  # fmt: skip
        for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", cable)
            for device in ("lo", cable):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`; if that is not possible, print why and exit."""
    try:
        done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("skipped: needs iproute2's `ip`")
    if done.returncode:
        sys.exit(f"skipped: `ip {' '.join(arguments)}`: {done.stderr.strip()}")


if __name__ == "__main__":
    main()
