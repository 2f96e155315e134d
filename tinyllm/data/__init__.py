"""Data, from the source of a document to token arrays."""
