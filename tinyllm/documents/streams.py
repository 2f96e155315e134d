"""The streams of bytes in a file: archives opened, compression undone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tinyllm.documents.archives import member_streams
from tinyllm.documents.packing import Spend, spend_freely, unpacked


def streams(
    path: Path, name: str, members: Sequence[str] | None, spend: Spend = spend_freely
) -> Iterator[tuple[str, IO[bytes]]]:
    """Open each stream of bytes in a file, one after the other, compression undone.

    Args:
        name: what errors are to call the file.
        members: of an archive: those to read; None: the file is read itself.
        spend: counts what is unpacked to find the members, not what is read of them.

    Yields:
        its name (of a member, the archive's before it), and the stream.
    """
    if members is None:
        with path.open("rb") as file:
            yield name, unpacked(file, name)
        return
    for member, inner in member_streams(path, name, members, spend):
        yield f"{name}/{member}", unpacked(inner, f"{name}/{member}")
