"""A corpus on the network: its addresses written out, its files fetched."""

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
    """The addresses that `download.url` stands for, in order.

    Raises:
        ValueError: a pattern matches nothing or can't be listed, or there are more or fewer
            digests in `download.sha256`.
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
    except ValueError as error:  # braces can make such an address of one that is
        raise ValueError(f"download.url = {url!r}: {error}") from None
    if urlsplit(url).scheme in SCHEMES:
        if "*" in urlsplit(url).path:
            raise ValueError(
                f"download.url = {url!r}: a web server lists no files; name them with braces, like "
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
    """Fetch files, and say how one is put into the raw folder.

    Args:
        downloads: where they wait and stay.
        most: bytes that they may have together.

    Raises:
        ValueError: see `fetch`; or a web page came instead of a file.
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
            os.link(file.path, files / file.name)  # nobody writes to either
        except OSError:  # another file system, or one without links
            shutil.copyfile(file.path, files / file.name)
        return file.digest or ""

    return found, link


def _refuse_page(url: str, fetched: Fetched) -> None:
    """Refuse what servers send with status 200 where there is no file: a page for logging in, say.

    It is not kept, so that the next run asks again.
    """
    with fetched.path.open("rb") as file:
        kind = textual(file.read(HEAD).decode("utf-8", "ignore").removeprefix("\ufeff"))
    if kind is not None:
        fetched.path.unlink()
        raise ValueError(
            f"{url}: what came is {kind.what} ({kind.seen}), and is not kept; {kind.advice}; or "
            "set download.format: text to read it as it is"
        )


def named_by_content(name: str, path: Path) -> str:
    """A downloaded file's name, with the suffix of how it is packed.

    Addresses like `.../download?id=3` have none, servers send `a.jsonl` compressed, and proxies
    unpack what they pass on; whoever has but an address can't rename the file.
    """
    with path.open("rb") as file:
        head = file.peek(HEAD)
        packing = packing_of(head)
        with suppress(ValueError), damage_named(name):  # a reader says what is wrong
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
    # Bytes that are not text may be what is left of compressed data that are damaged.
    return f"{plain}{packing}" if packing or (kind is None and is_utf8(head)) else name
