"""Printing to the terminal, and failing with a readable error."""

import atexit
import gc
import io
import os
import re
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from tinyllm.common.addresses import without_passwords

NO_WINDOWS = (
    "error: tinyllm runs on Linux and macOS, not on Windows itself: on Windows, run it in WSL "
    "(https://learn.microsoft.com/windows/wsl/install)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but tab and line feed


def run(main: Callable[[], None]) -> None:
    """Run a main function and print errors that the user can fix without a traceback.

    Exits with status 1 on such an error and 130 on an interruption; neither is a success.
    """
    if os.name == "nt":
        sys.exit(NO_WINDOWS)
    never_fail_to_print()
    # An exiting Python looks for garbage among all objects, which takes 0.4 s if torch is imported.
    atexit.register(gc.freeze)
    try:
        main()
    except Exception as error:  # cause() decides; any other error is raised again
        if (message := cause(error)) is None:
            raise
        sys.exit(f"error: {without_passwords(message)}")
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "interrupted", file=sys.stderr)
        sys.exit(130)


def never_fail_to_print() -> None:
    """Make standard output and error accept any text and drop what can't be printed.

    A finished stage must not fail because a pipe is closed (`... | head`), the terminal was
    closed, or its encoding lacks a character.
    """
    sys.stdout, sys.stderr = _lossy(sys.stdout), _lossy(sys.stderr)


class _Lossy(io.RawIOBase):
    """A file to print to, by its descriptor; it drops the bytes that can't be written."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # a slow reader: wait, as a blocking stream does
                select.select([], [self._descriptor], [])
            except OSError:
                return len(memoryview(data))


def _lossy(stream: Any) -> TextIO:
    """Return the same stream, except that printing to it never fails."""
    if stream is None:  # its descriptor was closed when Python started
        return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")
    with suppress(OSError):
        stream.flush()
    try:
        raw = _Lossy(stream.fileno())
    except OSError:  # not a file: an object of a test or notebook
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=_usable(stream.encoding),
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )


def _usable(encoding: str) -> str:
    """Return the encoding, or ASCII if nothing can be printed in it (idna, undefined)."""
    try:
        f"{'ü' * 100}\n".encode(encoding, "backslashreplace")
    except (UnicodeError, LookupError):
        return "ascii"
    return encoding


def has_colours(stream: TextIO) -> bool:
    """Return whether to print in colour: on a terminal, unless NO_COLOR is set (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def visible(text: str) -> str:
    """Return the text with control characters escaped, which could change a terminal's state."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def is_closed(stream: TextIO) -> bool:
    """Return whether nothing reads the stream any more, as after `| head`."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):  # not a file, or closed here
        return stream.closed
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def cause(error: Exception) -> str | None:
    """Return the message for an error that the user can fix; None for any other error."""
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    return lack(error) if isinstance(error, (MemoryError, RuntimeError)) else None


def lack(error: Exception) -> str | None:
    """Return what the machine ran out of, if the error is about that; torch has no types for it."""
    message = str(error)
    if isinstance(error, MemoryError) or re.search(r"out of memory|can't allocate memory", message):
        first = next(iter(message.splitlines()), "")
        return (
            f"out of memory ({first or type(error).__name__}); to use less, reduce "
            "train.micro_batch_size, evaluate.batch_size or the number of evaluate.prompts"
        )
    if worker := re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)", message):
        return (
            f"data worker {worker[1]} was killed or failed, possibly out of memory; "
            "set runtime.num_workers: 0 to run without workers"
        )
    return None
