"""What tests of reading share with those of sources: folders, and a corpus brought and read."""

from tests.corpus.conftest import bring_it, documents, downloads, raw, texts  # noqa: F401
