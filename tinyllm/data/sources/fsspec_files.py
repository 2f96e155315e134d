"""Read a file from a store that fsspec supports by a plug-in: s3://, gs://, hf:// and others."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from tinyllm.data.sources.file_names import file_name
from tinyllm.data.sources.http_validators import Answer, Interrupted

CHUNK = 1 << 20  # bytes
BLOCK = 10  # stalls; a plug-in reads up to 50 MB at once, and lists thousands of names
PLUGINS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}


@contextmanager
def open_remote(url: str, offset: int, version: str | None, stall: float) -> Iterator[Answer]:
    """Request a file; see `open_web`. A plug-in may retry by itself.

    Raises:
        Interrupted: The store does not answer.
        ValueError: The file can't be read, or its plug-in is not installed.
    """
    with _failures_named(url):
        fs, path = _filesystem(url)
        details = within(stall, fs.info, path)
        if details["type"] != "file":
            raise ValueError(
                f"{url} is a {details['type']}, not a file; name its files, as in {url}/*.parquet"
            )
        # Only the details that identify the content; others may change.
        keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created", "size", "blob_id")
        found = str([(key, str(details[key])) for key in keys if details.get(key) is not None])
        file = within(stall, fs.open, path, "rb")
    with file:
        start = offset if found == version else 0
        file.seek(start)
        chunks = _chunks(file, BLOCK * stall)
        yield Answer(start, details.get("size"), found, file_name(url), chunks)


def matches(url: str, stall: float) -> list[str]:
    """Return the addresses of the files that match a pattern, sorted; of a file, its own.

    Raises:
        ValueError: No file matches, or the store can't list them.
    """
    try:
        with _failures_named(url):
            fs, path = _filesystem(url)
            if within(stall, fs.isfile, path):
                return [url]
            found = within(BLOCK * stall, partial(fs.glob, path, detail=True))
    except Interrupted as error:
        raise ValueError(f"{url} can't be listed: {error}") from None
    names = sorted(name for name, details in found.items() if details["type"] == "file")
    if not names:
        raise ValueError(f"download.url = {url!r}: no file matches this pattern")
    return [fs.unstrip_protocol(name) for name in names]


def within(seconds: float, work: Callable[..., Any], *given: Any) -> Any:
    """Call a function with a time limit; not every plug-in has a limit of its own.

    Raises:
        Interrupted: The function did not return in time; its thread keeps running.
    """
    done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((work(*given), None))
        except BaseException as error:  # raised in the waiting thread
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = done.get(timeout=seconds)
    except Empty:
        raise Interrupted(f"no answer in {seconds:g} s") from None
    if error is not None:
        raise error
    return value


@contextmanager
def _failures_named(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, Interrupted):
        raise
    except FileNotFoundError:
        raise ValueError(f"{url}: the file does not exist") from None
    except Exception as error:  # the libraries of a plug-in raise types of their own
        raise ValueError(f"{url} can't be read: {str(error) or type(error).__name__}") from None


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    scheme = urlsplit(url).scheme
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        plugin = PLUGINS.get(scheme)
        needs = f"the package {plugin}: pip install {plugin}" if plugin else str(error)
        raise ValueError(f"{url}: {scheme}:// needs {needs}") from None
    except ValueError as error:
        raise ValueError(f"download.url = {url!r}: {error}") from None


def _chunks(file: Any, stall: float) -> Iterator[bytes]:
    while True:
        try:
            chunk = within(stall, file.read, CHUNK)
        except Interrupted:
            raise
        except Exception as error:  # see `_failures_named`
            raise Interrupted(str(error) or type(error).__name__) from None
        if not chunk:
            return
        yield chunk
