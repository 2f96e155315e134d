"""Text in, documents out."""
