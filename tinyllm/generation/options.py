"""The options of `tinyllm generate`: checked together, with defaults from params.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm.generation.sampling import Sampling, out_of_range
from tinyllm.settings.load import Params

LARGEST_SEED = 1 << 63
KINDS: dict[str, type[int] | type[float]] = {
    "max_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "seed": int,
    "samples": int,
}
# Where there is no params.yaml.
DEFAULTS: dict[str, Any] = {
    "max_tokens": 200,
    "temperature": 0.8,
    "top_k": 50,
    "top_p": None,
    "min_p": None,
    "repetition_penalty": 1.0,
    "seed": 1337,
    "samples": 1,
}


@dataclass(frozen=True)
class Options:
    """What to generate for a prompt.

    Attributes:
        samples: number of texts.
        stop: strings that end a text.
    """

    sampling: Sampling
    seed: int
    samples: int
    stop: tuple[str, ...]


def options(given: Mapping[str, str | None], stop: Sequence[str], params: Params | None) -> Options:
    """Convert and check the options that were given, by name; None for those that were not.

    Raises:
        ValueError: some are wrong; one line for each.
    """
    values, wrong = dict(DEFAULTS), dict[str, str]()
    if params is not None:
        section = params.evaluate
        values |= {"max_tokens": section.sample_tokens, "seed": params.seed}
        values |= {name: getattr(section, name) for name in ("temperature", "top_k", "top_p")}
    for name, text in given.items():
        if text is not None:
            try:
                values[name] = KINDS[name](text)
            except ValueError:
                kind = "a whole number" if KINDS[name] is int else "a number"
                wrong[name] = f"must be {kind}"
    if values["top_k"] == 0:  # as in other programs: no filter
        values["top_k"] = None
    checks = out_of_range(values)
    if values["samples"] < 1:
        checks["samples"] = "must be 1 or more"
    if not 0 <= values["seed"] < LARGEST_SEED:
        checks["seed"] = f"must be from 0 to {LARGEST_SEED - 1}"
    wrong = checks | wrong
    lines = [f"{flag(name)} {given[name]}: {wrong[name]}" for name in KINDS if name in wrong]
    if not all(stop):
        lines.append("--stop '': must not be empty")
    if lines:
        count = f"{len(lines)} wrong option{'' if len(lines) == 1 else 's'}:"
        raise ValueError("\n".join([count, *lines]))
    seed, samples = values.pop("seed"), values.pop("samples")
    return Options(Sampling(**values), seed, samples, tuple(stop))


def flag(name: str) -> str:
    """The option of the command line."""
    return "-n" if name == "samples" else f"--{name.replace('_', '-')}"
