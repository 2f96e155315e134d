"""Reads every byte that the pipeline has made, and says which are no longer what was written."""
