"""The answer of a file server, and the exception for a transfer that can be retried."""

from collections.abc import Iterator
from dataclasses import dataclass


class Interrupted(Exception):
    """A transfer ended early, for a reason that may be temporary.

    Attributes:
        wait: Seconds that the server asks to wait before the next try.
        from_scratch: Whether the bytes that arrived can't be used.
    """

    def __init__(self, reason: object, wait: float = 0.0, from_scratch: bool = False) -> None:
        super().__init__(str(reason))
        self.wait = wait
        self.from_scratch = from_scratch


@dataclass(frozen=True)
class Answer:
    """A file that is being sent.

    Attributes:
        start: Offset of the first byte sent.
        total: Size of the complete file in bytes; None: not stated.
        version: Identifies the content, so that only the same content is resumed; None: not stated.
        name: Name of the file.
        chunks: The bytes from `start` on. Raises Interrupted.
    """

    start: int
    total: int | None
    version: str | None
    name: str
    chunks: Iterator[bytes]
