"""What has come of a file that is being fetched: on disk, so that any process can go on with it."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tinyllm.common.files import read_json, remove, write_json

AHEAD = 8  # chunks that may be written and not hashed yet
WRITE = 1 << 19  # bytes: on virtual machines, larger writes took up to three times as long (log.md)


class Part:
    """The beginning of a file, and what is known of the whole.

    Attributes:
        path: where it lies.
        size: bytes that are here.
        version: of the whole file (`Answer`); None: not known, and there is nothing to go on with.
        total: bytes of the whole file; None: not known.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "part"
        self._state = folder / "state.json"
        self._hash, self._hashed = hashlib.sha256(), 0
        self.version: str | None
        self.total: int | None
        try:
            state = read_json(self._state)
            self.version, self.total = state["version"], state["total"]
            self.size = self.path.stat().st_size
        except (ValueError, KeyError, TypeError, OSError):  # nothing is here, or nothing known
            self.discard()

    def discard(self) -> None:
        """Begin anew."""
        remove(self.path)
        remove(self._state)
        self._hash, self._hashed = hashlib.sha256(), 0
        self.version, self.total, self.size = None, None, 0

    def begin(self, version: str | None, total: int | None) -> None:
        """Begin anew, with another file or another version of it."""
        self.discard()
        self.version, self.total = version, total
        self.path.touch()
        if version is not None:
            write_json(self._state, {"version": version, "total": total})

    @contextmanager
    def appending(self) -> Iterator[Callable[[bytes], None]]:
        """Give a function that appends bytes; their SHA-256 is computed beside it.

        (One after the other, a download of 1 GB would take 0.7 s longer.)
        """
        self._catch_up()
        try:
            with self.path.open("ab") as file, ThreadPoolExecutor(1) as thread:
                unhashed: deque[Future[None]] = deque()

                def append(chunk: bytes) -> None:
                    for start in range(0, len(chunk), WRITE):
                        file.write(memoryview(chunk)[start : start + WRITE])
                    self.size += len(chunk)
                    unhashed.append(thread.submit(self._hash.update, chunk))
                    self._hashed = self.size
                    if len(unhashed) > AHEAD:
                        unhashed.popleft().result()

                yield append
        finally:
            self.size = self.path.stat().st_size  # on a full disk a chunk is written in part

    def digest(self) -> str:
        """SHA-256 of what is here, in hex."""
        self._catch_up()
        return self._hash.hexdigest()

    def _catch_up(self) -> None:
        """Read what another process brought."""
        if self._hashed == self.size:
            return
        with self.path.open("rb") as file:
            self._hash = hashlib.file_digest(file, "sha256")
        self._hashed = self.size
