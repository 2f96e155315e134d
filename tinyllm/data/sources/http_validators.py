"""What anything that serves files answers, and how a transfer ends that may be tried again."""

from collections.abc import Iterator
from dataclasses import dataclass


class Interrupted(Exception):
    """A transfer ended early, for a reason that may pass.

    Attributes:
        wait: seconds that the server asks for before the next try.
        anew: whether what came so far is of no use.
    """

    def __init__(self, reason: object, wait: float = 0.0, anew: bool = False) -> None:
        super().__init__(str(reason))
        self.wait = wait
        self.anew = anew


@dataclass(frozen=True)
class Answer:
    """A file that is being sent.

    Attributes:
        start: bytes of it that are left out at its beginning.
        total: bytes of the whole file; None: not told.
        version: what is another for another content, to go on with no other; None: not told.
        name: of the file.
        chunks: the bytes from `start` on. Raises Interrupted.
    """

    start: int
    total: int | None
    version: str | None
    name: str
    chunks: Iterator[bytes]
