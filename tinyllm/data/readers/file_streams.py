"""Open the byte streams in a file: members of archives, decompressed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tinyllm.data.readers.archives import member_streams
from tinyllm.data.readers.compression import (
    Spend,
    damage_named,
    packing_by_name,
    packing_of,
    spend_freely,
    unpacked,
    unpacked_name,
)
from tinyllm.data.readers.detecting import is_utf8
from tinyllm.data.readers.evidence import instead


def streams(
    path: Path | str, name: str, members: Sequence[str] | None, spend: Spend = spend_freely
) -> Iterator[tuple[str, IO[bytes]]]:
    """Open each byte stream in a file one after the other, decompressed.

    Args:
        name: The file's name in errors.
        members: The members of an archive to read; None: read the file itself.
        spend: Counts what is unpacked to find the members, not what is read of them.

    Yields:
        The stream's name (of a member, prefixed by the archive's), and the stream.
    """
    if members is None:
        with open(path, "rb") as file:  # noqa: PTH123 (for many files)
            yield name, _unpacked(file, name)
        return
    for member, inner in member_streams(Path(path), name, members, spend):
        yield f"{name}/{member}", _unpacked(inner, f"{name}/{member}")


def _unpacked(file: Any, name: str) -> IO[bytes]:
    if not (packing := packing_by_name(name)):
        return file
    with damage_named(name):
        head = file.peek(512)
    if packing_of(head) != packing:
        if kind := instead(head):
            raise ValueError(f"{name} is not {packing[1:]}-compressed: {kind}")
        if head and 0 not in head and is_utf8(head):  # decompressed by a proxy or browser
            raise ValueError(
                f"{name} is not {packing[1:]}-compressed but plain text; rename it to "
                f"{Path(unpacked_name(name)).name}"
            )
    return unpacked(file, name, packing)
