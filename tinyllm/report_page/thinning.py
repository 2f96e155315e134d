"""Fewer points than were measured, as many as a screen shows."""

import math
from collections.abc import Mapping, Sequence


def size_of_groups(count: int, most: int) -> int:
    """How many neighbours to join so that at most `most` groups remain; 1 if there are few."""
    return max(1, math.ceil(count / most))


def thinned(rows: Sequence[Mapping[str, float]], most: int) -> list[dict[str, float]]:
    """The means of each column over neighbouring rows, in at most `most` rows."""
    size = size_of_groups(len(rows), most)
    parts = [rows[first : first + size] for first in range(0, len(rows), size)]
    return [{key: sum(row[key] for row in part) / len(part) for key in part[0]} for part in parts]


def sampled(count: int, most: int, keep: Sequence[int] = ()) -> list[int]:
    """The places of at most `most` rows, spread evenly with both ends, and those to keep."""
    if count <= most:
        return list(range(count))
    chosen = {round(place * (count - 1) / (most - 1)) for place in range(most)}
    return sorted(chosen | {place for place in keep if 0 <= place < count})
