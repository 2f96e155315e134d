"""Shared by every stage: files, processes, the terminal."""
