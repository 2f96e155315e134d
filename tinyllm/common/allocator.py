"""How glibc holds the memory of this process; other C libraries are left as they are."""

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_MADV_HUGEPAGE = 14  # from Linux's mman.h
_LARGEST_ON_HEAP = 32 << 20  # bytes; the largest M_MMAP_THRESHOLD that glibc accepts
_RESERVED = 1 << 30  # bytes of addresses, not of memory


def keep_memory() -> None:
    """Keep freed memory, and hold the heap in huge pages.

    Each training step frees and allocates the same arrays. Getting them from the system again, page
    by page, took a sixth of a step. Looking up the address of each page of 4 kB took a tenth of a
    step in a virtual machine (docs/log.md).
    """
    if sys.platform != "linux":
        return
    c = ctypes.CDLL(None)
    if not hasattr(c, "mallopt"):
        return
    c.mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
    c.mallopt(_M_TRIM_THRESHOLD, 2 * _RESERVED - 1)
    if not addresses_are_limited():
        _extend_heap(c)
    for start, end in heaps():
        c.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_HUGEPAGE)


def _extend_heap(c: ctypes.CDLL) -> None:
    """Give the heap its addresses, so that what it will hold can be advised now."""
    malloc: Callable[[int], int | None] = c.malloc
    c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    c.free.restype, c.free.argtypes = None, [ctypes.c_void_p]
    size = _LARGEST_ON_HEAP - (1 << 20)
    for block in [malloc(size) for _ in range(_RESERVED // size)]:
        c.free(block)


def addresses_are_limited() -> bool:
    """Whether addresses count as memory here: by `ulimit -v`, `ulimit -d` or strict accounting."""
    import resource  # not on Windows

    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    if any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits):
        return True
    try:
        return Path("/proc/sys/vm/overcommit_memory").read_text(encoding="ascii").strip() == "2"
    except OSError:  # no /proc
        return False


def heaps() -> list[tuple[int, int]]:
    """First and last address of each range that Linux calls a heap; empty if it doesn't say."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no /proc
        return []
    named = [line.split()[0] for line in maps.splitlines() if line.endswith("[heap]")]
    found = []
    for addresses in named:
        start, end = (int(address, 16) for address in addresses.split("-"))
        found.append((start, end))
    return found
