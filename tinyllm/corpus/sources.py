"""Where documents come from: each source fills a raw folder and says what it brought."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tinyllm.common.files import sha256_of
from tinyllm.common.params import Download
from tinyllm.corpus.docstrings import docstrings, licence
from tinyllm.corpus.documents import Manifest, RawFile, file_documents, write_manifest
from tinyllm.corpus.fetch import check_sha256, fetch


def bring(settings: Download, folder: Path) -> Manifest:
    """Fill `folder` with the corpus that params.yaml names, and with its manifest.

    Raises:
        ValueError: the source is missing, damaged, empty, or not the one whose SHA-256 was given.
    """
    if settings.source == "docstrings":
        manifest = _from_docstrings(settings, folder)
    elif settings.source == "url":
        manifest = _from_url(settings, folder)
    else:
        manifest = _from_path(settings, folder)
    if manifest.documents == 0:
        raise ValueError(f"the corpus is empty: {manifest.source} holds no text")
    write_manifest(folder, manifest)
    return manifest


def _from_docstrings(settings: Download, folder: Path) -> Manifest:
    name = "docstrings.jsonl"
    with (folder / name).open("w", encoding="utf-8", newline="\n") as file:
        for package in settings.packages:
            for text in docstrings(package):
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    licences = {licence(package.split("==")[0]) or "not stated" for package in settings.packages}
    source = "docstrings of " + ", ".join(settings.packages)
    return _describe(folder, [name], source, "; ".join(sorted(licences)), format="jsonl")


def _from_url(settings: Download, folder: Path) -> Manifest:
    assert settings.url is not None
    name = Path(urlsplit(settings.url).path).name or "text.txt"
    fetch(settings.url, folder / name, settings.sha256)
    return _describe(folder, [name], settings.url, settings.licence, separator=settings.separator)


def _from_path(settings: Download, folder: Path) -> Manifest:
    source = Path(settings.path)
    key = f"download.path = {settings.path!r}"
    if not source.exists():
        raise ValueError(f"{key}: there is no such file or folder")
    if settings.sha256 is not None:
        if not source.is_file():
            raise ValueError("download.sha256: can be given for one file only, not for a folder")
        check_sha256(source, settings.sha256)
    names = []
    for name, path in _text_files(source):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
        names.append(name)
    if not names:
        raise ValueError(f"{key}: there is no .txt file in this folder")
    return _describe(folder, names, source.name, settings.licence, separator=settings.separator)


def _text_files(source: Path) -> Iterator[tuple[str, Path]]:
    """Each text file as (name in the raw folder, path), in a fixed order."""
    if source.is_file():
        yield source.name, source
        return
    found = {path.relative_to(source).as_posix(): path for path in source.rglob("*.txt")}
    for name in sorted(found):
        if found[name].is_file():
            yield name, found[name]


def _describe(
    folder: Path,
    names: list[str],
    source: str,
    licence: str | None,
    *,
    format: Literal["text", "jsonl"] = "text",
    separator: str | None = None,
) -> Manifest:
    """Count what the files hold, reading each through, which also finds what is not UTF-8."""
    documents = size = 0
    for name in names:
        for document in file_documents(folder / name, format, separator):
            documents += 1
            size += len(document.encode())
    files = [RawFile(n, (folder / n).stat().st_size, sha256_of(folder / n)) for n in names]
    return Manifest(source, licence, format, separator, documents, size, files)
