"""The project folder of the tests of tracking."""

from tests.tracking.conftest import project

__all__ = ["project"]
