"""A run's description in MLflow: why the run failed comes first, the rest stays unchanged."""

VANISHED = (
    "the process ended without recording why: it was killed (SIGKILL), ran out of memory, or the "
    "machine went down"
)
WORDS = {"FAILED": "Failed", "KILLED": "Stopped"}


def with_reason(note: str, status: str, reason: str) -> str:
    """A description with the reason of a run's end, in place of an earlier end's reason."""
    rest = without_reason(note)
    if status not in WORDS or not reason:
        return rest
    return f"**{WORDS[status]}:** {' '.join(reason.split())}\n\n{rest}".rstrip()


def without_reason(note: str) -> str:
    """A description without the paragraph that `with_reason` added."""
    if note.startswith(tuple(f"**{word}:** " for word in WORDS.values())):
        return note.partition("\n\n")[2]
    return note
