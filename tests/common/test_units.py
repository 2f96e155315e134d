"""Format quantities as text."""

import pytest

from tinyllm.common.units import megabytes


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0.0 kB"), (99_900, "99.9 kB"), (3_100_000, "3.10 MB")]
)
def test_sizes(size: int, shown: str) -> None:
    assert megabytes(size) == shown
