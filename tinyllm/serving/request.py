"""What a request to the served model may contain; everything wrong in it is reported at once."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROMPT = "prompt"  # the input's only column
MOST_TOKENS = 10_000  # per text: MLflow's server can't cancel a request
LARGEST_SEED = 2**63 - 1

# Name, MLflow's type, default and shape of each parameter.
PARAMS: list[dict[str, Any]] = [
    {"name": "max_new_tokens", "type": "long", "default": 200, "shape": None},
    {"name": "temperature", "type": "double", "default": 0.8, "shape": None},
    {"name": "top_k", "type": "long", "default": 50, "shape": None},
    {"name": "top_p", "type": "double", "default": None, "shape": None},
    {"name": "seed", "type": "long", "default": None, "shape": None},
    {"name": "stop", "type": "string", "default": [], "shape": [-1]},
]
DEFAULTS: dict[str, Any] = {param["name"]: param["default"] for param in PARAMS}


@dataclass(frozen=True)
class Request:
    """Prompts, and how to continue them.

    Attributes:
        prompts: at least one.
        max_new_tokens, temperature, top_k, top_p: as in `tinyllm.generation.sampling.Sampling`.
        seed: a random one if the request has none.
        stop: strings that end a text.
    """

    prompts: list[str]
    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int
    stop: list[str]


def read_request(prompts: Sequence[object], params: Mapping[str, Any] | None) -> Request:
    """Check a request.

    Raises:
        ValueError: it is wrong; the message names each fault: what it is, and what it may be.
    """
    given = DEFAULTS | dict(params or {})
    given["stop"] = [given["stop"]] if isinstance(given["stop"], str) else given["stop"]
    faults = [*faults_of_prompts(prompts), *faults_of_params(given)]
    if faults:
        raise ValueError("; ".join(faults))
    if given["seed"] is None:
        given["seed"] = secrets.randbelow(LARGEST_SEED)
    return Request([str(prompt) for prompt in prompts], **given)


def faults_of_prompts(prompts: Sequence[object]) -> list[str]:
    """What is wrong with the prompts."""
    if not len(prompts):
        return ["no prompt: the list is empty"]
    return [
        f"{PROMPT} {number}: must be text, not {type(prompt).__name__} ({prompt})"
        for number, prompt in enumerate(prompts)
        if not isinstance(prompt, str)
    ]


def faults_of_params(params: Mapping[str, Any]) -> list[str]:
    """What is wrong with the parameters: all of them, with `stop` as a list."""
    unknown = [name for name in params if name not in DEFAULTS]
    faults = [f"{name}: no such parameter; there are {', '.join(DEFAULTS)}" for name in unknown]
    integers = {
        "max_new_tokens": (1, MOST_TOKENS, False),
        "top_k": (1, LARGEST_SEED, True),
        "seed": (0, LARGEST_SEED, True),
    }
    for name, (least, most, optional) in integers.items():
        value = params[name]
        if not (optional and value is None) and not (_is_integer(value) and least <= value <= most):
            upper = f" to {most:,}" if most < LARGEST_SEED else " on"
            null = ", or null" if optional else ""
            faults.append(f"{name} = {value}: must be a whole number from {least}{upper}{null}")
    temperature = params["temperature"]
    if not (_is_number(temperature) and 0 <= temperature < float("inf")):
        faults.append(f"temperature = {temperature}: must be a number from 0 on")
    top_p = params["top_p"]
    if top_p is not None and not (_is_number(top_p) and 0 < top_p <= 1):
        faults.append(f"top_p = {top_p}: must be a number above 0 and up to 1, or null")
    stop = params["stop"]
    if not (isinstance(stop, list) and all(isinstance(each, str) and each for each in stop)):
        faults.append(f"stop = {stop}: must be a string or a list of strings, none of them empty")
    return faults


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
