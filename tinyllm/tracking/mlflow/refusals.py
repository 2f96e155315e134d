"""What MLflow has refused of a journal: kept and sent again later; the rest does not wait for it.

A file is often refused for a reason that passes or can be fixed: a proxy's limit, an expired
login, an artifact store that is full. It is tried again after a minute, then after twice as
long each time, up to a day; `tinyllm sync` tries it at once.
"""

import re
import time
from dataclasses import asdict, dataclass
from typing import Any

from tinyllm.tracking.masking import masked

FIRST_WAIT, LONGEST_WAIT = 60.0, 86_400.0  # seconds
LENGTH = 300  # characters of a reason
HELP = {
    401: "log in again: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN",
    403: "the server, or a proxy in front of it, forbids it",
    413: "too large for the server, or for a proxy in front of it",
    504: "a proxy in front of the server timed out",
}

Key = tuple[int, str]  # where in the journal its line begins, and which of the things in it


class Unsendable(Exception):
    """Something that is missing or damaged here, so that it can never be sent."""


@dataclass
class Refusal:
    """Something that is kept to be sent later.

    Attributes:
        reason: of the last refusal; empty: it was not tried yet.
        due: when to try it next, in seconds since 1970.
    """

    reason: str = ""
    tries: int = 0
    due: float = 0.0


class Refusals:
    """What is kept of one journal.

    Attributes:
        kept: by the place of its line and its name.
        news: whether something was refused that was not before, or for another reason.
    """

    def __init__(self) -> None:
        self.kept: dict[Key, Refusal] = {}
        self.news = False

    def add(self, key: Key) -> None:
        """Keep something that was not tried yet."""
        self.kept.setdefault(key, Refusal())

    def refuse(self, key: Key, reason: str) -> None:
        """Keep something that was refused."""
        before = self.kept.get(key, Refusal())
        wait = min(FIRST_WAIT * 2**before.tries, LONGEST_WAIT)
        self.kept[key] = Refusal(reason, before.tries + 1, time.time() + wait)
        self.news = self.news or before.reason != reason

    def drop(self, *names: str) -> None:
        """Forget what has another value by now."""
        self.kept = {key: each for key, each in self.kept.items() if key[1] not in names}

    def due(self, *, everything: bool) -> list[Key]:
        """What to try now, in the order of the journal."""
        now = time.time()
        return sorted(key for key, each in self.kept.items() if everything or each.due <= now)

    def __str__(self) -> str:
        return "; ".join(f"{name}: {each.reason}" for (_, name), each in sorted(self.kept.items()))

    def as_json(self) -> list[dict[str, Any]]:
        return [{"line": line, "name": name, **asdict(v)} for (line, name), v in self.kept.items()]

    def restore(self, entries: list[dict[str, Any]]) -> None:
        """The inverse of `as_json`."""
        for entry in entries:
            key = (int(entry.pop("line")), str(entry.pop("name")))
            self.kept[key] = Refusal(**entry)


def reason_of(error: Exception) -> str:
    """What went wrong, in a line: without secrets, without the HTML of a proxy's page."""
    text = re.sub(r"<[^>]*>", " ", str(error))
    text = masked(" ".join(text.split()) or type(error).__name__)
    if len(text) > LENGTH:
        text = f"{text[:LENGTH]} ..."
    help_ = HELP.get(status_of(error) or 0)
    return f"{text} ({help_})" if help_ else text


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error is about; None: it is about none, or does not say."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    found = re.search(r"failed with error code (\d{3})\b", str(error))
    return int(found[1]) if found else None
