"""A run's description in MLflow: why the run failed stands first, the rest is left as it is."""

VANISHED = (
    "the process ended without recording why: it was killed (SIGKILL), ran out of memory, or the "
    "machine went down"
)
WORDS = {"FAILED": "Failed", "KILLED": "Stopped"}


def with_reason(note: str, status: str, reason: str) -> str:
    """The description of a run that ended so; a former end's reason is taken out of it."""
    rest = without_reason(note)
    if status not in WORDS or not reason:
        return rest
    return f"**{WORDS[status]}:** {' '.join(reason.split())}\n\n{rest}".rstrip()


def without_reason(note: str) -> str:
    """The description without the paragraph that `with_reason` put before it."""
    if note.startswith(tuple(f"**{word}:** " for word in WORDS.values())):
        return note.partition("\n\n")[2]
    return note
