"""The way of a document: from its source to token arrays."""
