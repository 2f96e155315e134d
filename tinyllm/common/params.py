"""`params.yaml`, read into frozen typed models, with every error found at once.

What each setting means, and its unit, stands beside it in `params.yaml`; here is what it may be.
"""

import re
from collections.abc import Callable
from pathlib import Path
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
from tinyllm.common.cross_checks import conflicts, listed, show
from tinyllm.common.vocabulary import N_BYTES

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


def _encoding(name: str) -> str:
    if name != "bpe":
        import tiktoken  # 30 ms, and not for the default

        names = ["bpe", *tiktoken.list_encoding_names()]
        if name not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
    return name


def _known(source: str, info: ValidationInfo) -> str:
    """The names that there are come from whoever brings the corpus (`load_params`)."""
    if info.context is not None:
        info.context(source)
    return source


# One or several; one alone need not be a list.
Addresses = Annotated[
    list[Annotated[str, AfterValidator(_address)]], BeforeValidator(listed), Field(min_length=1)
]
Digests = Annotated[
    list[Annotated[str, AfterValidator(_sha256)]], BeforeValidator(listed), Field(min_length=1)
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
    encoding: Annotated[Text, AfterValidator(_encoding)]
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
    compile: Literal["auto", True, False]
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
        raise ValueError(f"{path.name}: must hold one section a stage, but holds {show(raw)}")
    try:
        params, errors = Params.model_validate(raw, context=check_source), {}
    except ValidationError as failure:
        params, errors = None, dict(map(_explain, failure.errors()))
    errors |= dict(conflicts(raw, set(errors)))
    if errors:
        lines = [f"{key}{message}" for key, message in errors.items()]
        raise ValueError("\n".join([f"{path.name} has {len(lines)} wrong setting(s):", *lines]))
    assert params is not None
    return params


# As pydantic says it, and as params.yaml has it.
WORDS = {
    "a valid boolean": "true or false",
    "True or False": "true or false",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid list": "a list",
    "String should have at least 1 character": "must not be empty",
}


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
    for theirs, ours in WORDS.items():
        message = message.replace(theirs, ours)
    quoted = isinstance(error["input"], str) and re.fullmatch(r"-?[\d.]+", error["input"])
    if quoted and message.endswith("number"):
        message += ", without quotes"
    return key, f" = {show(error['input'])}: {message}"
