"""A file in a store that fsspec knows: s3://, gs://, hf:// and many more, each by its plug-in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tinyllm.corpus.answers import Answer, Interrupted

CHUNK = 1 << 20  # bytes
PLUGINS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}


@contextmanager
def open_remote(
    url: str,
    offset: int,
    version: str | None,
    stall: float,  # noqa: ARG001 (called as open_web is)
) -> Iterator[Answer]:
    """Ask for a file; see `open_web`. How long to wait and try is the plug-in's own affair.

    Raises:
        ValueError: it can't be had, or its plug-in is not installed.
    """
    try:
        fs, path = _filesystem(url)
        details = fs.info(path)
        if details["type"] != "file":
            raise ValueError(f"{url} is a {details['type']}, not a file")
        # Of the details, what tells one content from another; what else there is may change.
        keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created", "size", "blob_id")
        found = str([(key, str(details[key])) for key in keys if details.get(key) is not None])
        file = fs.open(path, "rb")
    except ValueError:
        raise
    except FileNotFoundError:
        raise ValueError(f"{url}: there is no such file") from None
    except Exception as error:  # of whatever type the plug-in's own libraries have
        raise ValueError(f"{url} can't be read: {str(error) or type(error).__name__}") from None
    with file:
        start = offset if found == version else 0
        file.seek(start)
        yield Answer(start, details.get("size"), found, _chunks(file))


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


def _chunks(file: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = file.read(CHUNK)
        except Exception as error:  # likewise
            raise Interrupted(str(error) or type(error).__name__) from None
        if not chunk:
            return
        yield chunk
