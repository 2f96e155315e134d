"""What test_workers.py lets its workers do, in a module that is quick to import."""

import os
import signal
import time


def twice_later(number: int) -> int:
    """The later tasks are the sooner done."""
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
