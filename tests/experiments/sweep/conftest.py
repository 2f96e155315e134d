"""A project in which the pipeline of a tiny model has run."""

from tests.pipeline import copy, quiet, ran

__all__ = ["copy", "quiet", "ran"]
