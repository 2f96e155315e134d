"""Items of a journal that MLflow refused: kept and retried later, without delaying the rest.

A file is often refused for a temporary or fixable reason: a proxy's limit, an expired login, a full
artifact store. It is retried after a minute, then after twice as long each time, up to a day;
`tinyllm sync` retries it at once.
"""

import re
import time
from dataclasses import asdict, dataclass
from typing import Any

from tinyllm.tracking.masking import masked

FIRST_WAIT, LONGEST_WAIT = 60.0, 86_400.0  # seconds
LENGTH = 300  # characters shown of a reason
HELP = {
    401: "log in again: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN",
    403: "the server, or a proxy in front of it, forbids it",
    413: "too large for the server, or for a proxy in front of it",
    504: "a proxy in front of the server timed out",
}

Key = tuple[int, str]  # the position of its line in the journal, and its name in that line


class Unsendable(Exception):
    """An item that can never be sent, because its file is missing or corrupt."""


@dataclass
class Refusal:
    """An item that is kept to be sent later.

    Attributes:
        reason: reason of the last refusal; empty if it was not tried yet.
        due: time of the next try, in seconds since 1970.
    """

    reason: str = ""
    tries: int = 0
    due: float = 0.0


class Refusals:
    """The refused items of one journal.

    Attributes:
        kept: refusals by the position of the line and the name.
        news: whether an item was refused for the first time, or for a new reason.
    """

    def __init__(self) -> None:
        self.kept: dict[Key, Refusal] = {}
        self.news = False

    def add(self, key: Key) -> None:
        """Keep an item that was not tried yet."""
        self.kept.setdefault(key, Refusal())

    def refuse(self, key: Key, reason: str) -> None:
        """Keep an item that was refused."""
        before = self.kept.get(key, Refusal())
        wait = min(FIRST_WAIT * 2**before.tries, LONGEST_WAIT)
        self.kept[key] = Refusal(reason, before.tries + 1, time.time() + wait)
        self.news = self.news or before.reason != reason

    def drop(self, *names: str) -> None:
        """Forget items whose values are out of date."""
        self.kept = {key: each for key, each in self.kept.items() if key[1] not in names}

    def due(self, *, everything: bool) -> list[Key]:
        """The items to try now, in the order of the journal."""
        now = time.time()
        return sorted(key for key, each in self.kept.items() if everything or each.due <= now)

    def __str__(self) -> str:
        return "; ".join(f"{name}: {each.reason}" for (_, name), each in sorted(self.kept.items()))

    def as_json(self) -> list[dict[str, Any]]:
        return [{"line": line, "name": name, **asdict(v)} for (line, name), v in self.kept.items()]

    def restore(self, entries: list[dict[str, Any]]) -> None:
        """Load what `as_json` returned."""
        for entry in entries:
            key = (int(entry.pop("line")), str(entry.pop("name")))
            self.kept[key] = Refusal(**entry)


def reason_of(error: Exception) -> str:
    """An error in one line, without secrets and without the HTML of a proxy's page."""
    text = re.sub(r"<[^>]*>", " ", str(error))
    text = masked(" ".join(text.split()) or type(error).__name__)
    if len(text) > LENGTH:
        text = f"{text[:LENGTH]} ..."
    help_ = HELP.get(status_of(error) or 0)
    return f"{text} ({help_})" if help_ else text


def status_of(error: Exception) -> int | None:
    """The HTTP status of an error; None if it has none."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    found = re.search(r"failed with error code (\d{3})\b", str(error))
    return int(found[1]) if found else None
