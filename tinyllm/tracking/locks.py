"""Locks on files, held by one process at a time; they also work on file systems without flock."""

import fcntl
import functools
import os
import sys
import time
from pathlib import Path

from filelock import SoftFileLock, Timeout

STEP = 0.2  # seconds between two tries


class Lock:
    """A lock that a process holds until it releases it or exits.

    On file systems without flock (Lustre, some NFS), the lock is a marker: a file with the number
    and host of the process. A marker of a killed process on this host is ignored.

    Args:
        file: the file to lock; created if missing, unlike its folder.
        marker: path of the marker.
    """

    def __init__(self, file: Path, marker: Path) -> None:
        self.file = file
        self.marker = marker
        self._descriptor: int | None = None
        self._soft: SoftFileLock | None = None

    def acquire(self, patience: float = 0.0) -> bool:
        """Take the lock, waiting up to `patience` seconds. Returns whether this process has it.

        Raises:
            OSError: neither the file nor the marker can be created.
        """
        deadline = time.monotonic() + patience
        while not self._try(fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                self.release()
                return False
            time.sleep(STEP)
        return True

    def is_held(self) -> bool:
        """Whether another process holds the lock. Don't call it while holding the lock."""
        try:
            return self.file.exists() and not self._try(fcntl.LOCK_SH)
        finally:
            self.release()

    def holder(self) -> str:
        """The end of an error message: which process left a marker, and how to remove it."""
        try:
            process, host, *_ = self.marker.read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            return ""
        return f": process {process} on {host}; if that has exited, delete {self.marker}"

    def release(self) -> None:
        """Release the lock, even if a forked worker has the file open; no-op if not held."""
        descriptor, self._descriptor = self._descriptor, None
        soft, self._soft = self._soft, None
        if soft is not None:
            soft.release()
        elif descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        if descriptor is not None:
            os.close(descriptor)

    def _try(self, how: int) -> bool:
        if self._descriptor is None:
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        if self._soft is None:
            try:
                fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                return False
            except OSError as error:  # ENOSYS, ENOLCK, EOPNOTSUPP: no flock here
                _say_once(error.strerror)
                self._soft = SoftFileLock(self.marker, thread_local=False)
        try:
            self._soft.acquire(timeout=STEP, poll_interval=STEP / 4)
            return True
        except Timeout:
            return False


@functools.cache
def _say_once(reason: str) -> None:
    print(
        f"This file system does not support flock ({reason}); lock files are used instead. "
        "Do not start the same training on two machines.",
        file=sys.stderr,
    )
