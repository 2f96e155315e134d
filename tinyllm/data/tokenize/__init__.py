"""Turn documents into token ids on disk."""
