"""What a program shows in the terminal, and how it fails."""

import re
import sys
from collections.abc import Callable

from tinyllm.common.processes import end_with_starter


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main function; if the DVC that started it is killed, it ends as well."""
    end_with_starter()
    run(main)


def run(main: Callable[[], None]) -> None:
    """Run a main function; what a user can mend is told in plain lines, without a trace.

    Exits with status 1 on such an error and 130 on an interruption, which DVC must not take for a
    success.
    """
    try:
        main()
    except Exception as error:  # what is told of it decides
        if (told := cause(error)) is None:
            raise
        sys.exit(f"error: {told}")
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "interrupted", file=sys.stderr)
        sys.exit(130)


def cause(error: Exception) -> str | None:
    """What to tell of an error that a user can mend; None: it is another."""
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    return lack(error) if isinstance(error, (MemoryError, RuntimeError)) else None


def lack(error: Exception) -> str | None:
    """What the machine lacked, if that is what an error is about; torch has no types for it."""
    message = str(error)
    if isinstance(error, MemoryError) or re.search(r"out of memory|can't allocate memory", message):
        first = next(iter(message.splitlines()), "")
        return (
            f"out of memory ({first or type(error).__name__}); smaller batches need less of it: "
            "train.micro_batch_size, evaluate.batch_size"
        )
    if worker := re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\)", message):
        return (
            f"data worker {worker[1]} was killed or failed, perhaps for want of memory; "
            "runtime.num_workers: 0 does without"
        )
    return None
