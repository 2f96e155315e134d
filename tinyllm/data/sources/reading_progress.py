"""Show how much of a corpus a stage has read, in a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], object]]:
    """Draw the number of bytes read, if standard error is a terminal.

    Args:
        what: Label beside the number.

    Yields:
        A function to call with each number of bytes read.
    """
    # miniters: pieces differ in size, so the bar is redrawn by time only.
    with tqdm(desc=what, unit="B", unit_scale=True, miniters=1, disable=None, leave=False) as bar:
        yield bar.update
