"""The name of a run, which shows what is special about it."""

from collections.abc import Mapping

MOST = 4  # settings in a name
LONGEST = 24  # characters of a setting's value
USUAL = "train."  # the section that is not named
# Settings that decide no result, and those that only choose what is generated.
NOT_NAMED = ("runtime.", "evaluate.prompts", "evaluate.sample_tokens")
CODE = "changed code"


def run_name(
    settings: Mapping[str, str], code: bool, unchanged: str, experiment: str | None
) -> str:
    """Name a run by what differs from Git, and by DVC's name of the experiment.

    >>> run_name({"train.n_layer": "6", "seed": "2"}, True, "", "runny-chic")
    'n_layer=6 seed=2 + changed code (runny-chic)'

    Args:
        settings: those that differ from Git's, by name.
        code: whether code differs too.
        unchanged: the name if nothing differs and there is no experiment.
        experiment: DVC's name; None if there is none.
    """
    shown = [
        f"{name.removeprefix(USUAL)}={_shortened(value)}"
        for name, value in settings.items()
        if not name.startswith(NOT_NAMED)
    ]
    if len(shown) > MOST:
        shown[MOST - 1 :] = [f"{len(shown) - MOST + 1} more settings"]
    special = " + ".join(filter(None, [" ".join(shown), CODE if code else ""]))
    if experiment:
        return f"{special} ({experiment})" if special else experiment
    return f"{unchanged} + {CODE}" if special == CODE else special or unchanged


def _shortened(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
