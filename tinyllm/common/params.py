"""`params.yaml`, read into frozen typed models, with every error found at once.

What each setting means, and its unit, stands beside it in `params.yaml`; here is what it may be.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from tinyllm.common import strict_yaml

END_OF_TEXT = "<|endoftext|>"
N_BYTES = 256  # the tokens that any byte-level vocabulary begins with

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of params.yaml: frozen, strict about types, unknown keys refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )


def _pinned(package: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!-]+", package):
        raise ValueError("must be a package and its version, like pandas==3.1.1")
    return package


def _address(url: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url):
        raise ValueError("must be an address, like https://..., s3://..., gs://... or hf://...")
    return url


def _sha256(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("must be 64 digits of lower-case hex")
    return digest


def _pattern(expression: str) -> str:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from None
    return expression


def _known(source: str, info: ValidationInfo) -> str:
    """The names that there are come from whoever brings the corpus (`load_params`)."""
    if info.context is not None:
        info.context(source)
    return source


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


# One or several; one alone need not be a list.
Addresses = Annotated[
    list[Annotated[str, AfterValidator(_address)]], BeforeValidator(_listed), Field(min_length=1)
]
Digests = Annotated[
    list[Annotated[str, AfterValidator(_sha256)]], BeforeValidator(_listed), Field(min_length=1)
]


class Download(Section):
    source: Annotated[Text, AfterValidator(_known)]
    packages: Annotated[list[Annotated[str, AfterValidator(_pinned)]], Field(min_length=1)]
    url: Addresses | None
    path: Text
    files: Text | None
    format: Literal["auto", "text", "jsonl", "parquet"]
    field: Text
    separator: Text | None
    document_start: Annotated[Text, AfterValidator(_pattern)] | None
    errors: Literal["strict", "replace"]
    sha256: Digests | None
    licence: Text | None
    max_bytes: Count


class Tokenize(Section):
    encoding: Text
    vocab_size: Annotated[int, Field(ge=N_BYTES + 1, le=1 << 20)]
    sample_bytes: Count | None


class Split(Section):
    validation_fraction: Fraction
    test_fraction: Fraction
    near_duplicates: Annotated[int, Field(ge=0)]


class Train(Section):
    n_layer: Count
    n_head: Count
    d_model: Count
    context_length: Annotated[int, Field(ge=2)]
    dropout: Share
    batch_size: Count
    micro_batch_size: Count | None
    optimizer: Literal["adamw", "adam", "sgd", "muon"]
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)]
    momentum: Share
    weight_decay: NonNegative
    grad_clip: Positive | None
    max_steps: Count
    learning_rate: Positive
    min_learning_rate: NonNegative
    embedding_rate_multiplier: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    decay_steps: Count | None
    eval_interval: Count
    eval_tokens: Count | None
    patience: Count | None
    save: Literal["best", "last"]

    def resolve(self) -> "Train":
        """The same settings with each null that means "derive it" filled in."""
        return self.model_copy(
            update={
                "micro_batch_size": self.micro_batch_size or self.batch_size,
                "decay_steps": self.decay_steps or self.max_steps,
            }
        )


class Evaluate(Section):
    batch_size: Count | None
    stride: Count | None
    prompts: list[Text]
    sample_tokens: Count
    temperature: NonNegative
    top_k: Count | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None


class Hardware(Section):
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Count | None
    processes: Count | None
    nodes: Count
    sharding: Literal["none", "full"]
    resume: Literal["exact", "any"]


class Runtime(Section):
    num_workers: Annotated[int, Field(ge=0)]
    pin_memory: bool
    tracker: Literal["mlflow", "none"]
    checkpoint_steps: Count | None
    checkpoint_minutes: Positive | None
    experiment: Text
    resource_interval: Positive
    download_timeout: Positive
    download_retries: Annotated[int, Field(ge=0)]


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    download: Download
    tokenize: Tokenize
    split: Split
    train: Train
    evaluate: Evaluate
    hardware: Hardware
    runtime: Runtime


# What must hold between settings: the key to blame, the rule, what it may be.
CROSS_CHECKS: list[tuple[str, Callable[[Any], bool], str]] = [
    (
        "download.url",
        lambda p: p.download.source != "url" or p.download.url is not None,
        "must be given when download.source is url",
    ),
    (
        "download.sha256",
        lambda p: (
            p.download.source != "url"
            or p.download.sha256 is None
            or len(_listed(p.download.sha256)) == len(_listed(p.download.url or []))
        ),
        "must be one for each address of download.url",
    ),
    (
        "download.sha256",
        lambda p: p.download.source != "path" or len(_listed(p.download.sha256 or [None])) == 1,
        "must be one, for the one file at download.path",
    ),
    (
        "download.document_start",
        lambda p: p.download.document_start is None or p.download.separator is None,
        "must be null when download.separator is given",
    ),
    (
        "split.test_fraction",
        lambda p: p.split.validation_fraction + p.split.test_fraction < 1,
        "must leave something for training beside split.validation_fraction = "
        "{p.split.validation_fraction}",
    ),
    (
        "train.n_head",
        lambda p: p.train.d_model % (2 * p.train.n_head) == 0,
        "must divide train.d_model = {p.train.d_model} into heads of an even width",
    ),
    (
        "train.micro_batch_size",
        lambda p: p.train.batch_size % (p.train.micro_batch_size or 1) == 0,
        "must divide train.batch_size = {p.train.batch_size}",
    ),
    (
        "train.warmup_steps",
        lambda p: p.train.warmup_steps < p.train.max_steps,
        "must be below train.max_steps = {p.train.max_steps}",
    ),
    (
        "train.decay_steps",
        lambda p: (
            p.train.decay_steps is None
            or p.train.warmup_steps < p.train.decay_steps <= p.train.max_steps
        ),
        "must be above train.warmup_steps = {p.train.warmup_steps} and at most "
        "train.max_steps = {p.train.max_steps}",
    ),
    (
        "train.min_learning_rate",
        lambda p: p.train.min_learning_rate <= p.train.learning_rate,
        "must be at most train.learning_rate = {p.train.learning_rate}",
    ),
    (
        "hardware.processes",
        lambda p: p.train.batch_size % ((p.hardware.processes or 1) * p.hardware.nodes) == 0,
        "must, times hardware.nodes = {p.hardware.nodes}, divide train.batch_size = "
        "{p.train.batch_size}",
    ),
    (
        "hardware.sharding",
        lambda p: (
            p.hardware.sharding == "none"
            or p.hardware.processes is None
            or p.hardware.processes * p.hardware.nodes > 1
        ),
        "must be none for a single process",
    ),
    (
        "hardware.sharding",
        lambda p: p.hardware.sharding == "none" or p.train.optimizer in ("adamw", "adam"),
        "must be none with train.optimizer = {p.train.optimizer!r}, which torch can't shard",
    ),
    (
        "evaluate.stride",
        lambda p: (p.evaluate.stride or 1) <= p.train.context_length,
        "must be at most train.context_length = {p.train.context_length}",
    ),
]


def load_params(path: Path, check_source: Callable[[str], None] | None = None) -> Params:
    """Read and check params.yaml.

    Args:
        check_source: raises ValueError for a `download.source` that there is none of. Only the
            stage that runs first knows the catalogue; the others do not depend on it.

    Raises:
        ValueError: what is wrong, one line each: key, value, what it may be.
    """
    try:
        raw = strict_yaml.load(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path.name}: must hold one section a stage, but holds {_show(raw)}")
    try:
        params, errors = Params.model_validate(raw, context=check_source), {}
    except ValidationError as failure:
        params, errors = None, dict(map(_explain, failure.errors()))
    errors |= dict(_conflicts(raw, set(errors)))
    if errors:
        lines = [f"{key}{message}" for key, message in errors.items()]
        raise ValueError("\n".join([f"{path.name} has {len(lines)} wrong setting(s):", *lines]))
    assert params is not None
    return params


def _explain(error: Any) -> tuple[str, str]:
    """One of pydantic's errors as (key, what is wrong with it)."""
    parts = (str(part) for part in error["loc"])
    key = ".".join(part if part.isprintable() else repr(part) for part in parts)
    if error["type"] == "missing":
        return key, ": is missing"
    if error["type"] == "extra_forbidden":
        return key, ": is not a setting"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] == "model_type":
        message = "must be a section with its settings below it"
    return key, f" = {_show(error['input'])}: {message}"


def _conflicts(raw: dict[str, Any], wrong: set[str]) -> Iterator[tuple[str, str]]:
    """Settings that are fine alone but not together; those already wrong are left out."""
    p = SimpleNamespace()
    for name, section in raw.items():
        if isinstance(section, dict):
            fine = {k: v for k, v in section.items() if f"{name}.{k}" not in wrong}
            setattr(p, name, SimpleNamespace(**fine))
    for key, holds, message in CROSS_CHECKS:
        try:
            if holds(p):
                continue
        except AttributeError:  # a setting it needs is missing or wrong, and reported as that
            continue
        section, name = key.split(".")
        value = getattr(getattr(p, section), name)
        yield key, f" = {_show(value)}: {message.format(p=p)}"


def _show(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
