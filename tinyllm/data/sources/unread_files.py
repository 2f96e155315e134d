"""Messages about files that are not read, and the error if none is."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from tinyllm.data.readers.archives import TAR, ZIP, Listing, is_archive
from tinyllm.data.readers.compression import unpacked_name
from tinyllm.data.readers.layout import SUFFIXES, Layout

SHOWN = 5  # names in a message
NESTED = "nested archives are not read; unpack it first"
_TABLES = "export them as Parquet, CSV or JSON Lines"
_DOCUMENTS = "convert them to .txt"
ADVICE = {
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro", ".db", ".sqlite", ".sqlite3"), _TABLES),
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".pkl", ".pickle", ".npy", ".npz", ".h5"), _TABLES),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".ps", ".djvu"), _DOCUMENTS),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".ppt", ".pptx", ".mobi"), _DOCUMENTS),
    **dict.fromkeys((ZIP, *TAR), "nested archives: unpack the outer one first"),
    **dict.fromkeys((".7z", ".rar", ".lz4", ".lz", ".z"), "unpack them"),
}


def printable(name: str) -> str:
    """Return a file's name for a single-line message; a name may contain a line feed."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def some(names: Sequence[str]) -> str:
    """Return the first names, for a message."""
    return ", ".join(map(printable, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def warn(names: Sequence[str], what: str, advice: str = "") -> None:
    """Print a line about files, if there are any."""
    if names:
        print(f"download: {what}: {some(sorted(names))}{advice}", file=sys.stderr)


def warn_of_members(name: str, inside: Listing, others: Sequence[str]) -> None:
    """Print which parts of an archive are not read: nested archives, and `others`.

    Args:
        others: Names of members that match but are not files.
    """
    name = printable(name)
    nested = [member for member in inside.files if is_archive(member)]
    warn(nested, f"{len(nested):,} archive(s) within {name} are not read", f"; unpack {name} first")
    odd = [f"{member} ({inside.others[member]})" for member in others]
    warn(odd, f"not read in {name}, because they are not files")


def nothing_to_read(names: Sequence[str], layout: Layout) -> str:
    """Explain why no file of a folder or an archive is read, and what to do."""
    if not names:
        return "contains no file"
    names = sorted(names)
    if all(map(is_archive, names)):
        return f"contains {some(names)}; {NESTED}"
    if layout.files is not None:
        wanted = f"download.files = {layout.files!r}"
        return f"none of its {len(names):,} file(s) matches {wanted}: {some(names)}"
    kinds = Counter(PurePosixPath(unpacked_name(name)).suffix.lower() for name in names)
    there = ", ".join(_kind(suffix, count) for suffix, count in kinds.most_common(SHOWN))
    return (
        f"none of its {len(names):,} file(s) is a {', '.join(SUFFIXES)} file; it contains {there}"
        + (", ..." if len(kinds) > SHOWN else "")
        + (
            ""
            if ADVICE.keys() >= kinds.keys()
            else '; to read others, set download.files, like "**/*.md"'
        )
    )


def _kind(suffix: str, count: int) -> str:
    advice = f", which are not read ({ADVICE[suffix]})" if suffix in ADVICE else ""
    return f"{count:,} {suffix or 'without a suffix'}{advice}"
