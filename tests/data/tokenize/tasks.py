"""Tasks for the workers of test_workers.py, in a module that is quick to import."""

import os
import signal
import time


def twice_later(number: int) -> int:
    """Return twice the number; later tasks finish sooner."""
    time.sleep(0.01 * (5 - number % 5))
    return 2 * number


def fail_at_seven(number: int) -> int:
    if number == 7:
        raise ValueError("seven is wrong")
    return number


def die_at_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
