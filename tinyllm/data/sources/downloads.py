"""Download a corpus from the network: expand its addresses and fetch its files."""

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from tinyllm.data.readers.archives import is_archive
from tinyllm.data.readers.compression import damage_named, packing_of, unpacked, unpacked_name
from tinyllm.data.readers.detecting import is_utf8
from tinyllm.data.readers.evidence import HEAD, binary, textual
from tinyllm.data.readers.layout import Layout
from tinyllm.data.sources.braces import expand
from tinyllm.data.sources.catalogue import Address
from tinyllm.data.sources.fetch import Fetched, Patience, fetch
from tinyllm.data.sources.folder import Found
from tinyllm.data.sources.fsspec_files import matches
from tinyllm.data.sources.http import SCHEMES
from tinyllm.data.sources.intake import Keep
from tinyllm.settings.download import Download


def addresses_of(settings: Download, stall: float) -> list[Address]:
    """Return the addresses that `download.url` stands for, in order.

    Raises:
        ValueError: A pattern matches nothing or can't be listed, or the number of digests in
            `download.sha256` differs.
    """
    urls = [
        found
        for given in settings.url or []
        for url in expand(given)
        for found in _listed(url, stall)
    ]
    sums: Sequence[str | None] = settings.sha256 or [None] * len(urls)
    if len(sums) != len(urls):
        raise ValueError(
            f"download.sha256: has {len(sums):,} digest(s), and download.url stands for "
            f"{len(urls):,} address(es); give one for each, or null"
        )
    return [Address(url, digest) for url, digest in zip(urls, sums, strict=True)]


def _listed(url: str, stall: float) -> list[str]:
    try:
        urlsplit(url)
    except ValueError as error:  # expanding braces can make an address invalid
        raise ValueError(f"download.url = {url!r}: {error}") from None
    if urlsplit(url).scheme in SCHEMES:
        if "*" in urlsplit(url).path:
            raise ValueError(
                f"download.url = {url!r}: a web server can't list files; use braces, like "
                "{000..099} or {a,b} (a * in a file's name is %2A)"
            )
        return [url]
    return matches(url, stall) if re.search(r"[*?[]", url) else [url]


def from_network(
    addresses: Sequence[Address],
    layout: Layout,
    files: Path,
    downloads: Path,
    most: int,
    patience: Patience,
) -> tuple[list[Found], Keep]:
    """Fetch files. Returns them, and a function that puts one into the raw folder.

    Args:
        downloads: Folder that keeps partial and complete downloads.
        most: Maximum of their total size in bytes.

    Raises:
        ValueError: See `fetch`; or the server sent a web page instead of a file.
    """
    found: list[Found] = []
    taken: set[str] = set()
    for number, address in enumerate(addresses, start=1):
        fetched = fetch(address.url, downloads, sha256=address.sha256, most=most, patience=patience)
        if address.sha256 is None and layout.format != "text":
            _refuse_page(address.url, fetched)
        size = fetched.path.stat().st_size
        most -= size
        name = named_by_content(fetched.name, fetched.path)
        while name.lower() in taken:
            name = f"{number}-{name}"
        taken.add(name.lower())
        found.append(Found(name, str(fetched.path), size, fetched.digest, origin=address.url))

    def link(file: Found) -> str:
        try:
            os.link(file.path, files / file.name)  # neither copy is ever modified
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(file.path, files / file.name)
        return file.digest or ""

    return found, link


def _refuse_page(url: str, fetched: Fetched) -> None:
    """Refuse a page that a server sends with status 200 instead of a file, like a login page.

    The page is deleted, so that the next run downloads again.
    """
    with fetched.path.open("rb") as file:
        kind = textual(file.read(HEAD).decode("utf-8", "ignore").removeprefix("\ufeff"))
    if kind is not None:
        fetched.path.unlink()
        raise ValueError(
            f"{url}: the server sent {kind.what} ({kind.seen}), which is not kept; {kind.advice}; "
            "or set download.format: text to read it as it is"
        )


def named_by_content(name: str, path: Path) -> str:
    """Return a downloaded file's name, with the suffix of its compression.

    Addresses like `.../download?id=3` have no suffix, servers send `a.jsonl` compressed, and
    proxies decompress files; a user with only an address can't rename the file.
    """
    with path.open("rb") as file:
        head = file.peek(HEAD)
        packing = packing_of(head)
        with suppress(ValueError), damage_named(name):  # the reader reports the error
            head = unpacked(file, name, packing).read(512) if packing else head
    kind = binary(head)
    what = "" if kind is None else kind.what
    if is_archive(name):
        return name
    plain = unpacked_name(name)
    if what == "a zip archive" and not packing:
        return f"{plain}.zip"
    if what == "a tar archive":
        return f"{plain}.tar{packing}"
    # Bytes that are not text may be corrupt compressed data.
    return f"{plain}{packing}" if packing or (kind is None and is_utf8(head)) else name
