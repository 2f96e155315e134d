"""Showing and recording a training; nothing here changes a result."""
