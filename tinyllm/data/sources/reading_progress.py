"""How far a stage has come with a corpus, in a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], object]]:
    """Draw how many bytes are done, if standard error is a terminal.

    Args:
        what: name beside the number.

    Yields:
        a function to call with each number of bytes that is done.
    """
    # miniters: pieces differ in size, so that only the time decides when to draw.
    with tqdm(desc=what, unit="B", unit_scale=True, miniters=1, disable=None, leave=False) as bar:
        yield bar.update
