"""Download and verify the vocabularies of tiktoken's published encodings.

tiktoken downloads them itself, but without a timeout. So each is put where tiktoken looks first: in
the folder of TIKTOKEN_CACHE_DIR, or else in its default folder.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinyllm.common.files import publish_file, sha256_of
from tinyllm.data.sources.fetch import Patience, fetch

SITE = "https://openaipublic.blob.core.windows.net"
MOST = 100_000_000  # bytes, at most, of a file
CACHES = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")

# Paths and SHA-256 of each encoding's files, as in tiktoken_ext/openai_public.py.
_P50K = (
    "encodings/p50k_base.tiktoken",
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
)
_O200K = (
    "encodings/o200k_base.tiktoken",
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
)
FILES: dict[str, tuple[tuple[str, str], ...]] = {
    "gpt2": (
        (
            "gpt-2/encodings/main/vocab.bpe",
            "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        ),
        (
            "gpt-2/encodings/main/encoder.json",
            "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        ),
    ),
    "r50k_base": (
        (
            "encodings/r50k_base.tiktoken",
            "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
        ),
    ),
    "p50k_base": (_P50K,),
    "p50k_edit": (_P50K,),
    "cl100k_base": (
        (
            "encodings/cl100k_base.tiktoken",
            "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        ),
    ),
    "o200k_base": (_O200K,),
    "o200k_harmony": (_O200K,),
}

# Vocabulary sizes, as in tiktoken: a model's size is known before any download.
SIZES = {
    "gpt2": 50257,
    "r50k_base": 50257,
    "p50k_base": 50281,
    "p50k_edit": 50284,
    "cl100k_base": 100277,
    "o200k_base": 200019,
    "o200k_harmony": 201088,
}


def load_published(name: str, downloads: Path, patience: Patience) -> None:
    """Make an encoding's vocabulary available, so that `Tokenizer.named` needs no network.

    Args:
        name: Of the encoding. Names outside FILES (`bpe`, plug-ins of others) are ignored.
        downloads: Folder of partial and complete downloads.

    Raises:
        ValueError: A file can't be downloaded.
    """
    import tiktoken

    if name not in FILES:
        return
    ours = downloads / "tiktoken"
    folder = _cache()
    for path, digest in FILES[name]:
        url = f"{SITE}/{path}"
        key = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
        if folder is not None and _is(folder / key, digest):
            source = folder / key
        elif _is(ours / key, digest):
            source = ours / key
        else:
            source = _fetch(name, url, digest, downloads, patience)
        for target in (folder, ours):
            if target is not None and not _is(target / key, digest):
                # An unwritable cache is no error: tiktoken reads our own folder.
                with suppress(OSError), publish_file(target / key) as temporary:
                    shutil.copyfile(source, temporary)
    with _cached_in(ours):
        tiktoken.get_encoding(name)


def _cache() -> Path | None:
    """Return tiktoken's cache folder; None if the user set an empty name, which disables it."""
    default = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    named = next((os.environ[name] for name in CACHES if name in os.environ), default)
    return Path(named) if named else None


def _is(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except OSError:
        return False


def _fetch(name: str, url: str, digest: str, downloads: Path, patience: Patience) -> Path:
    try:
        return fetch(url, downloads, sha256=digest, most=MOST, patience=patience).path
    except ValueError as error:
        raise ValueError(
            f"tokenize.encoding = {name!r}: its vocabulary can't be downloaded: {error}. Without a "
            f"network, run `TIKTOKEN_CACHE_DIR=vocabularies python -c 'import tiktoken; "
            f'tiktoken.get_encoding("{name}")\'` on a machine with one, copy that folder here and '
            "set TIKTOKEN_CACHE_DIR to it; or set tokenize.encoding: bpe"
        ) from None


@contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    before = os.environ.get(CACHES[0])
    os.environ[CACHES[0]] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHES[0]]
        else:
            os.environ[CACHES[0]] = before
