"""Fixtures that the tests of readers share with those of sources."""

from tests.data.sources.conftest import bring_it, documents, downloads, raw, texts  # noqa: F401
