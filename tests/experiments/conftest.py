"""The project folders of the tests of experiments."""

from tests.experiments.runs_project import tracked
from tests.tracking.conftest import project

__all__ = ["project", "tracked"]
