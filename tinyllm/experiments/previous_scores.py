"""The scores of an earlier commit beside those of a page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.evaluation.final_scores import SCORES
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.repository import Git, GitError, has_repository
from tinyllm.experiments.runs import read_objects
from tinyllm.report_page.content import Content

MOST_COMMITS = 100  # that are searched for other scores
BITS = "bits_per_byte"


@dataclass(frozen=True)
class Score:
    """How a score is shown.

    Attributes:
        form: of a value and, with a sign, of a change; a change in percent is in points.
        lower_is_better: whether a negative change is an improvement.
    """

    key: str
    name: str
    form: str
    lower_is_better: bool = True


SHOWN = (
    Score(BITS, "Bits per byte", ".4f"),
    Score("loss", "Loss, nats per token", ".4f"),
    Score("perplexity", "Perplexity", ".3f"),
    Score("accuracy", "Accuracy", ".2%", lower_is_better=False),
)


def previous_scores(
    root: Path, content: Content, base: str, against: str | None = None
) -> dict[str, Any] | None:
    """The scores of an earlier commit, and the difference of a page's scores from them.

    Args:
        base: commit that the run started from.
        against: revision to compare with; None for the last one, from `base` back, whose scores
            differ from the page's.

    Returns:
        What the page shows; None if no commit has other scores.

    Raises:
        ValueError: `against` is no revision, or has no scores.
    """
    if not has_repository(root):
        return None
    git = Git(root)
    scores = (places_of("evaluate", root)["reports"] / SCORES).as_posix()
    splits = places_of("train", root)["splits"].as_posix()
    try:
        if against is None:
            listed = git(
                "log",
                f"--max-count={MOST_COMMITS}",
                "--format=%H",
                "--end-of-options",
                base,
                "--",
                scores,
            )
        else:
            listed = git("rev-parse", "--verify", "--quiet", f"{against}^{{commit}}")
        commits = listed.decode().split()
        here = git("rev-parse", "--show-prefix").decode().strip()
        names = [f"{commit}:{here}{file}" for commit in commits for file in (scores, splits)]
        held = [_json(text) for text in read_objects(git, names)]
    except (GitError, OSError):
        if against is None:  # no commit yet, or one that a shallow clone lacks
            return None
        raise ValueError(f"--against {against}: no such revision") from None
    for commit, before, text in zip(commits, held[::2], held[1::2], strict=True):
        test = _numbers(before)
        if test and (against is not None or test[BITS] != content["scores"][BITS]):
            about = git("log", "-1", "--format=%h %s", commit).decode(errors="replace").strip()
            return _compared(about, test, text, content)
    if against is not None:
        raise ValueError(f"--against {against}: that commit has no {scores}")
    return None


def _compared(about: str, before: dict[str, float], splits: Any, content: Content) -> Any:
    """The table of scores. `about` is a commit's short hash and subject."""
    now, digest = content["scores"], content["splits"]["test"]["sha256"]
    known = _at(splits, "test", "sha256")
    note = ""
    if known is None:
        note = "That commit does not say which text was scored, so the scores may not compare."
    elif known != digest:
        note = "The test texts differ, so the scores do not compare."
    commit, _, subject = about.partition(" ")
    rows = [
        _row(score, before[score.key], now[score.key], judged=not note)
        for score in SHOWN
        if score.key in before
    ]
    return {"name": f"commit {commit}", "subject": subject, "note": note, "rows": rows}


def _row(score: Score, before: float, now: float, *, judged: bool) -> dict[str, str]:
    change = now - before
    shown = format(change, f"+{score.form}").replace("-", "\N{MINUS SIGN}")
    better = (change < 0) == score.lower_is_better
    return {
        "name": score.name,
        "before": format(before, score.form),
        "now": format(now, score.form),
        "change": shown.replace("%", " points"),
        "verdict": "" if not judged or change == 0 else "better" if better else "worse",
    }


def _json(text: bytes | None) -> Any:
    try:
        return json.loads(text or b"null")
    except ValueError:
        return None


def _numbers(scores: Any) -> dict[str, float] | None:
    """The test scores in a file of scores; None if it has none."""
    test = _at(scores, "test")
    if not isinstance(test, dict) or not isinstance(test.get(BITS), float):
        return None
    return {key: value for key, value in test.items() if isinstance(value, (int, float))}


def _at(content: Any, *keys: str) -> Any:
    """A value in nested mappings; None if it is not there."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
