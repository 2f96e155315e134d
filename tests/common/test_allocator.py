"""Memory that is freed stays with the process, in huge pages."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for Linux with glibc")

SHOW = """
import resource
from pathlib import Path
from tinyllm.common.allocator import heaps, keep_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(20 << 20)  # written with zeros, and freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

resident = lambda: int(Path("/proc/self/statm").read_text().split()[1])
before = resident()
keep_memory()
reserved = sum(end - start for start, end in heaps())
print(reserved >> 20, resident() - before)
print(new_pages(), new_pages())
smaps = Path("/proc/self/smaps").read_text()
flags = smaps.partition("[heap]")[2].partition("VmFlags:")[2].partition("\\n")[0]
print("hg" in flags.split())
"""


def shown(script: str, *limit: str) -> list[str]:
    command = [*limit, sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_under_a_limit_of_addresses_none_are_reserved() -> None:
    reserved, *_ = shown(SHOW, "sh", "-c", 'ulimit -v 4000000; exec "$@"', "sh")
    assert int(reserved) < 100


def test_freed_memory_is_kept_in_huge_pages_and_none_is_taken_ahead() -> None:
    reserved, taken, _, faults, huge = shown(SHOW)
    assert int(reserved) >= 1000  # MB of addresses
    assert int(taken) < 1000  # pages of 4 kB
    assert int(faults) < 10  # 5,120 if each page of 20 MB were new
    assert huge == str(Path("/sys/kernel/mm/transparent_hugepage").exists())
