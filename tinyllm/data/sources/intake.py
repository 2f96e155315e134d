"""Read all files of a corpus, and put them into a raw folder unchanged or packed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tinyllm.data.readers.archives import check_names, is_archive, listing
from tinyllm.data.readers.compression import Spend, bounded
from tinyllm.data.readers.documents import Piece
from tinyllm.data.readers.findings import Findings
from tinyllm.data.readers.formats import file_pieces
from tinyllm.data.readers.layout import Layout
from tinyllm.data.readers.raw_folder import RawFile
from tinyllm.data.sources.folder import Found, wanted_by
from tinyllm.data.sources.small_files import Packs, packable
from tinyllm.data.sources.unread_files import nothing_to_read, printable, warn_of_members

# Puts a file into the folder unchanged, and returns its SHA-256.
Keep = Callable[[Found], str]


@dataclass
class Reading:
    """How to read the files of a corpus, and the results.

    Attributes:
        layout: How documents are stored in the files.
        spend: Counts unpacked bytes.
        each: Called with the size in bytes of each piece of text.
        findings: Findings of the readers.
        text: Size in bytes of the documents read so far, in UTF-8.
    """

    layout: Layout
    spend: Spend
    each: Callable[[int], object]
    findings: Findings = field(default_factory=Findings)
    text: int = 0

    def pieces(self, path: Path | str, file: Found) -> Iterator[Piece]:
        """Yield the documents of a file; `path` is where it is now."""
        shown = printable(file.name)
        given = (path, shown, file.members, self.layout, self.spend, self.findings)
        with _origin_named(file):
            for piece in file_pieces(*given):
                size = len(piece.text) if piece.text.isascii() else len(piece.text.encode())
                self.text += size
                self.each(size)
                yield piece


@contextmanager
def _origin_named(file: Found) -> Iterator[None]:
    """Add the address of a file to an error about it."""
    try:
        yield
    except ValueError as error:
        if file.origin is None:
            raise
        raise ValueError(f"{error} (from {file.origin})") from None


def take_in(found: Sequence[Found], keep: Keep, files: Path, reading: Reading) -> list[RawFile]:
    """Fill the folder `files` with a corpus; reads all of it, to find what can't be read.

    Returns:
        The files of the folder in reading order: packs first, then unchanged files by name. (Small
        compressed files that contain long documents are not packed.)

    Raises:
        ValueError: See `file_pieces`.
    """
    packs, kept = Packs(files, found), []
    to_pack = packable(found)
    for file in found:
        if file.name not in to_pack:
            kept.append(_kept(file, keep, files, reading))
            continue
        packed = packs.file(file) if file.members is None else packs.archive(file)
        documents, fits = 0, True
        for piece in reading.pieces(file.path, file):
            documents += piece.last
            fits = fits and packed.add(piece)
        if fits:
            packed.close()
        else:
            kept.append(RawFile(file.name, file.size, keep(file), documents, file.members))
    packs.flush()
    return [*packs.done, *kept]


def _kept(file: Found, keep: Keep, files: Path, reading: Reading) -> RawFile:
    digest, path = keep(file), files / file.name
    documents = sum(piece.last for piece in reading.pieces(path, file))
    return RawFile(file.name, path.stat().st_size, digest, documents, file.members)


def with_members(found: Sequence[Found], layout: Layout, most: int) -> list[Found]:
    """Return the same files, archives with the members to read.

    A line on stderr names nested archives, which are not read, and members that are not files.

    Raises:
        ValueError: An archive is corrupt, or contains nothing to read.
    """
    return [
        _with_members(file, layout, most, alone=len(found) == 1) if is_archive(file.name) else file
        for file in found
    ]


def _with_members(file: Found, layout: Layout, most: int, alone: bool) -> Found:
    name = printable(file.name)
    with _origin_named(file):
        inside = file.inside or listing(Path(file.path), name, bounded(most, name))
        prefix, is_wanted = "" if alone else f"{file.name}/", wanted_by(layout)
        members = [member for member in inside.files if not is_archive(member)]
        if layout.files is not None or len(inside.files) > 1:  # a single member may have any name
            members = [member for member in members if is_wanted(prefix + member)]
        others = [member for member in inside.others if is_wanted(prefix + member)]
        if not members:
            shown = [f"{member} ({kind})" for member, kind in inside.others.items()]
            raise ValueError(f"{name}: {nothing_to_read([*inside.files, *shown], layout)}")
        check_names(members, name)
    warn_of_members(file.name, inside, others)
    return file._replace(members=members)
