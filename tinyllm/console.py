"""What a stage shows in the terminal, and how it fails."""

import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Run a stage's main function; what a user can mend is told in plain lines, without a trace.

    Exits with status 1 on such an error and 130 on an interruption, which DVC must not take for a
    success.
    """
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "interrupted", file=sys.stderr)
        sys.exit(130)


def megabytes(size: int) -> str:
    """A size in bytes, for people."""
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
