"""Fill a raw folder from any source, and describe it in a manifest."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tinyllm.common.addresses import without_passwords
from tinyllm.common.units import megabytes
from tinyllm.data.readers.compression import bounded
from tinyllm.data.readers.decoding import line_feeds
from tinyllm.data.readers.layout import Layout
from tinyllm.data.readers.raw_folder import FILES, Manifest, write_manifest
from tinyllm.data.sources.catalogue import CATALOGUE, PACKAGES, check_source
from tinyllm.data.sources.docstrings import docstrings, installed, licence
from tinyllm.data.sources.downloads import addresses_of, from_network
from tinyllm.data.sources.fetch import Patience
from tinyllm.data.sources.folder import Found, refusals_named
from tinyllm.data.sources.intake import Keep, Reading, take_in, with_members
from tinyllm.data.sources.local_files import from_path
from tinyllm.data.sources.reading_progress import progress
from tinyllm.settings.download import Download


def fetch_corpus(
    settings: Download, folder: Path, downloads: Path, patience: Patience | None = None
) -> Manifest:
    """Fill `folder` with the corpus that params.yaml names, and with its manifest.

    Args:
        downloads: Folder that keeps files downloaded from the network (`fetch`).

    Raises:
        ValueError: The source is missing, corrupt, empty or too large, or its SHA-256 is not the
            one in the settings.
    """
    files = folder / FILES
    files.mkdir()
    source = source_of(settings, downloads, patience or Patience())
    layout = source.layout
    found, keep = source.collect(files)
    found = with_members(found, layout, settings.max_bytes)
    with progress("read") as each, refusals_named(found):
        reading = Reading(layout, bounded(settings.max_bytes, source.origin), each)
        described = take_in(found, keep, files, reading)
    findings = reading.findings
    manifest = Manifest(
        source.origin, source.licence, layout, sum(file.documents for file in described),
        reading.text, described, skipped=findings.skipped, replaced=findings.replaced,
        notes=findings.notes(layout.separator, layout.document_start),
    )  # fmt: skip
    if manifest.documents == 0:
        notes = "".join(f"; {note}" for note in manifest.notes)
        raise ValueError(f"the corpus is empty: {source.origin} contains no text{notes}")
    write_manifest(folder, manifest)
    return manifest


def lines(manifest: Manifest) -> Iterator[str]:
    """Summarise a corpus for the terminal."""
    yield (
        f"{manifest.source}: {manifest.documents:,} documents, {megabytes(manifest.bytes)}, "
        f"licence: {manifest.licence or 'not stated'}"
    )
    yield from manifest.notes
    if empty := manifest.without_text:
        yield f"{len(empty)} of {manifest.count:,} files contain no text: {empty[0]} ..."


@dataclass(frozen=True)
class Source:
    """What the settings of `download` stand for: any kind of source.

    Attributes:
        origin: of the text, as the manifest names it.
        layout: how documents lie in the files.
        licence: of the text; None: not stated.
        collect: finds or makes the files of a corpus, and gives them with a function that puts one
            into the folder `files`, which is its argument.
    """

    origin: str
    layout: Layout
    licence: str | None
    collect: Callable[[Path], tuple[list[Found], Keep]]


def source_of(settings: Download, downloads: Path, patience: Patience) -> Source:
    """The source that the settings name; none of its text is read yet.

    Raises:
        ValueError: there is no such source or package, or an address stands for no file.
    """
    origin = _origin(settings)
    fetched = partial(from_network, downloads=downloads, most=settings.max_bytes, patience=patience)
    if settings.source == "path":
        layout = layout_of(settings)
        return Source(origin, layout, settings.licence, partial(from_path, settings, layout))
    if settings.source == "url":
        layout, addresses = layout_of(settings), addresses_of(settings, patience.stall)
        return Source(origin, layout, settings.licence, partial(fetched, addresses, layout))
    check_source(settings.source)
    entry = CATALOGUE[settings.source]
    if settings.source == PACKAGES:
        packages = settings.packages
        return Source(origin, entry.layout, _licences(packages), partial(_from_packages, packages))
    collect = partial(fetched, entry.addresses, entry.layout)
    return Source(origin, entry.layout, entry.licence, collect)


def _origin(settings: Download) -> str:
    """Return the origin of the text for the manifest."""
    if settings.source == PACKAGES:
        return "docstrings of " + ", ".join(settings.packages)
    if settings.source == "path":
        return Path(settings.path).name or settings.path
    if settings.source != "url":
        return settings.source
    return without_passwords(", ".join(settings.url or []))


def layout_of(settings: Download) -> Layout:
    """Return how the documents are stored in the user's own files."""
    separator = settings.separator
    return Layout(
        format=settings.format,
        files=settings.files,
        field=settings.field,
        records=settings.records,
        separator=None if separator is None else line_feeds(separator),
        document_start=settings.document_start,
        errors=settings.errors,
        encoding=settings.encoding,
        on_invalid=settings.on_invalid,
    )


def _licences(packages: list[str]) -> str:
    names = {licence(installed(package)) or "not stated" for package in packages}
    return "; ".join(sorted(names))


def _from_packages(packages: list[str], files: Path) -> tuple[list[Found], Keep]:
    path = files / f"{PACKAGES}.jsonl"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for package in packages:
            for text in docstrings(package):
                line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
                file.write(line)
                digest.update(line)
    found = Found(path.name, str(path), path.stat().st_size, digest.hexdigest())
    return [found], lambda file: file.digest or ""
