"""Format quantities as text."""


def megabytes(size: int) -> str:
    """Format a size in bytes, like 3.10 MB."""
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def about(seconds: float) -> str:
    """Format an estimated duration, like "about 2 min"."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"about {seconds / unit:.0f} {name}"
    return f"about {max(1, seconds):.0f} s"
