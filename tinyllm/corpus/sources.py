"""Where documents come from: each source fills a raw folder and says what it brought."""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tinyllm.corpus.catalogue import CATALOGUE, OWN, PACKAGES, Address, check_source
from tinyllm.corpus.docstrings import docstrings, licence
from tinyllm.corpus.fetch import Patience, fetch, file_name
from tinyllm.documents.archives import is_archive, is_hidden, member_names
from tinyllm.documents.decoding import line_feeds
from tinyllm.documents.findings import Findings
from tinyllm.documents.formats import file_pieces
from tinyllm.documents.layout import SUFFIXES, Layout
from tinyllm.documents.packing import CHUNK, bounded, unpacked_name
from tinyllm.documents.raw import FILES, Manifest, RawFile, write_manifest
from tinyllm.settings.download import Download

# A corpus' files as name within the raw folder's `files/` and SHA-256, in reading order.
Brought = list[tuple[str, str]]


def bring(
    settings: Download, folder: Path, downloads: Path, patience: Patience | None = None
) -> Manifest:
    """Fill `folder` with the corpus that params.yaml names, and with its manifest.

    Args:
        downloads: where what is fetched from the network waits and stays (`fetch`).

    Raises:
        ValueError: the source is missing, damaged, empty, too large, or not the one whose SHA-256
            was given.
    """
    patience = patience or Patience()
    files = folder / FILES
    files.mkdir()
    if settings.source in OWN:
        layout, stated = _layout(settings), settings.licence
    else:
        check_source(settings.source)
        entry = CATALOGUE[settings.source]
        layout, stated = entry.layout, entry.licence
    if settings.source == PACKAGES:
        brought = _from_packages(settings.packages, files)
        source, stated = "docstrings of " + ", ".join(settings.packages), _licences(settings)
    elif settings.source == "path":
        brought = _from_path(settings, layout, files)
        source = Path(settings.path).name or settings.path
    else:
        own = settings.source == "url"
        addresses = _addresses(settings) if own else CATALOGUE[settings.source].addresses
        brought = _from_web(addresses, files, downloads, settings.max_bytes, patience)
        source = ", ".join(a.url for a in addresses) if own else settings.source
    manifest = _describe(files, brought, source, stated, layout, settings.max_bytes)
    if manifest.documents == 0:
        notes = "".join(f"; {note}" for note in manifest.notes)
        raise ValueError(f"the corpus is empty: {source} holds no text{notes}")
    write_manifest(folder, manifest)
    return manifest


def _layout(settings: Download) -> Layout:
    separator = settings.separator
    return Layout(
        format=settings.format,
        files=settings.files,
        field=settings.field,
        separator=None if separator is None else line_feeds(separator),
        document_start=settings.document_start,
        errors=settings.errors,
        encoding=settings.encoding,
        on_invalid=settings.on_invalid,
    )


def _licences(settings: Download) -> str:
    names = {licence(package.split("==")[0]) or "not stated" for package in settings.packages}
    return "; ".join(sorted(names))


def _from_packages(packages: list[str], files: Path) -> Brought:
    name = f"{PACKAGES}.jsonl"
    digest = hashlib.sha256()
    with (files / name).open("wb") as file:
        for package in packages:
            for text in docstrings(package):
                line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
                file.write(line)
                digest.update(line)
    return [(name, digest.hexdigest())]


# ----- the network


def _addresses(settings: Download) -> tuple[Address, ...]:
    assert settings.url is not None
    sums: Sequence[str | None] = settings.sha256 or [None] * len(settings.url)
    return tuple(Address(url, digest) for url, digest in zip(settings.url, sums, strict=True))


def _from_web(
    addresses: tuple[Address, ...], files: Path, downloads: Path, most: int, patience: Patience
) -> Brought:
    brought: Brought = []
    for number, address in enumerate(addresses, start=1):
        path, digest = fetch(
            address.url, downloads, sha256=address.sha256, most=most, patience=patience
        )
        most -= path.stat().st_size
        name = file_name(address.url)
        if any(name.lower() == other.lower() for other, _ in brought):
            name = f"{number}-{name}"
        try:
            os.link(path, files / name)  # nobody writes to either
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, files / name)
        brought.append((name, digest))
    return brought


# ----- a file or a folder


def _from_path(settings: Download, layout: Layout, files: Path) -> Brought:
    source = Path(settings.path)
    key = f"download.path = {settings.path!r}"
    if not source.exists():
        pattern = "; the pattern of a folder's files goes into download.files"
        hint = pattern if re.search(r"[*?[]", settings.path) else ""
        raise ValueError(f"{key}: there is no such file or folder{hint}")
    if settings.sha256 is not None and not source.is_file():
        raise ValueError("download.sha256: can be given for one file only, not for a folder")
    found = list(_files_of(source, layout))
    for name, _ in found:
        _check_name(name)
    brought = [(name, _copy(path, files / name)) for name, path in found]
    if not brought:
        wanted = f"file {layout.files!r}" if layout.files else f"{' or '.join(SUFFIXES)} file"
        raise ValueError(
            f"{key}: there is no {wanted} in this folder; download.files says which to read"
        )
    if settings.sha256 is not None and [brought[0][1]] != settings.sha256:
        raise ValueError(
            f"{source}: its SHA-256 is {brought[0][1]}, not {settings.sha256[0]} "
            "as download.sha256 says"
        )
    return brought


def _check_name(name: str) -> None:
    """See that a file's name is text.

    Raises:
        ValueError: it is bytes that are no UTF-8, which no manifest can tell.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", errors="backslashreplace")
        raise ValueError(f"{shown}: this file's name is not UTF-8; rename it") from None


def _files_of(source: Path, layout: Layout) -> Iterator[tuple[str, Path]]:
    """The files to read as (name, path), by name; an archive counts as a folder."""
    if source.is_file():
        yield source.name, source
        return
    found = {path.relative_to(source).as_posix(): path for path in source.rglob("*")}
    _tell_of_links(source, found, layout)
    for name in sorted(found):
        if found[name].is_file() and (
            any(_wanted(f"{name}/{member}", layout) for member in member_names(found[name], name))
            if is_archive(name)
            else _wanted(name, layout)
        ):
            yield name, found[name]


def _tell_of_links(source: Path, found: dict[str, Path], layout: Layout) -> None:
    """Say which links to folders are not followed; nor would DVC see what changes behind them."""
    links = [
        name
        for name, path in sorted(found.items())
        if path.is_symlink() and path.is_dir() and (layout.files or not is_hidden(name))
    ]
    if links:
        shown = ", ".join(links[:5]) + (", ..." if len(links) > 5 else "")
        print(
            f"download: links to folders in {source} are not read: {shown}; to read one, name its "
            "folder as download.path, or copy it",
            file=sys.stderr,
        )


def _wanted(name: str, layout: Layout) -> bool:
    """Whether a file of a folder or archive is one to read."""
    if layout.files is None:
        return not is_hidden(name) and Path(unpacked_name(name)).suffix.lower() in SUFFIXES
    from fsspec.utils import glob_translate

    return re.match(glob_translate(layout.files), name) is not None


def _copy(path: Path, target: Path) -> str:
    """Copy a file. Returns its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("rb") as source, target.open("wb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


# ----- what was brought


def _describe(
    files: Path, brought: Brought, source: str, stated: str | None, layout: Layout, most: int
) -> Manifest:
    """Count what the files hold, reading each through, which also finds what can't be read."""
    spend = bounded(most, source)
    findings = Findings()
    described = []
    total = 0
    for name, digest in brought:
        path = files / name
        members = None
        if is_archive(name):
            members = _members(path, name, layout, most, alone=len(brought) == 1)
        documents = 0
        for piece in file_pieces(path, name, members, layout, spend, findings):
            documents += piece.last
            total += len(piece.text.encode())
        described.append(RawFile(name, path.stat().st_size, digest, documents, members))
    documents = sum(file.documents for file in described)
    notes = findings.notes(layout.separator, layout.document_start)
    return Manifest(
        source, stated, layout, documents, total, described,
        skipped=findings.skipped, replaced=findings.replaced, notes=notes,
    )  # fmt: skip


def _members(path: Path, name: str, layout: Layout, most: int, alone: bool) -> list[str]:
    """What to read of an archive; if there is but one file in it, that."""
    members = member_names(path, name, bounded(most, name))
    if layout.files is None and len(members) == 1:
        return members
    prefix = "" if alone else f"{name}/"
    wanted = [member for member in members if _wanted(prefix + member, layout)]
    if not wanted:
        there = ", ".join(members[:5]) or "nothing"
        raise ValueError(f"{name} holds {there}; download.files says which to read")
    return wanted
