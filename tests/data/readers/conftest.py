"""Fixtures that the tests of readers share with those of sources."""

from tests.data.sources.conftest import documents, downloads, fetch_it, raw, texts  # noqa: F401
