"""Download a corpus: by name, from the network or from local files."""
