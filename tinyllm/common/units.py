"""Quantities as text."""


def megabytes(size: int) -> str:
    """A size in bytes, like 3.10 MB."""
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
