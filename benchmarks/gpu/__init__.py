"""Checks and times training and generation on a GPU."""
