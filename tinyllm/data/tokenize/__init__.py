"""Documents in, token ids on disk out."""
