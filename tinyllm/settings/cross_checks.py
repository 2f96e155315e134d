"""Rules between the settings of params.yaml."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from tinyllm.models.registry import ARCHITECTURES
from tinyllm.settings.init_from import SCRATCH, base_model
from tinyllm.settings.section import listed

# The key to report, the rule, and what the value must be.
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
            or len(listed(p.download.sha256)) == len(listed(p.download.url or []))
            # The number of files that match a pattern is known only when they are listed.
            or any(set("{*?[") & set(url) for url in listed(p.download.url or []))
        ),
        "must have one digest for each address of download.url",
    ),
    (
        "download.sha256",
        lambda p: p.download.source != "path" or len(listed(p.download.sha256 or [None])) == 1,
        "must be a single digest, for the file at download.path",
    ),
    (
        "download.document_start",
        lambda p: p.download.document_start is None or p.download.separator is None,
        "must be null when download.separator is given",
    ),
    (
        "split.test_fraction",
        lambda p: p.split.validation_fraction + p.split.test_fraction < 1,
        "must leave a part for training beside split.validation_fraction = "
        "{p.split.validation_fraction}",
    ),
    (
        "train.architecture",
        lambda p: p.train.architecture in ARCHITECTURES,
        f"must be one of {', '.join(ARCHITECTURES)}",
    ),
    (
        "train.n_head",
        lambda p: p.train.d_model % (2 * p.train.n_head) == 0,
        "must divide train.d_model = {p.train.d_model} into heads of an even width",
    ),
    (
        "train.n_kv_head",
        lambda p: p.train.n_head % (p.train.n_kv_head or p.train.n_head) == 0,
        "must divide train.n_head = {p.train.n_head}",
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
        "must divide train.batch_size = {p.train.batch_size} when multiplied by hardware.nodes = "
        "{p.hardware.nodes}",
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


def conflicts(raw: dict[str, Any], wrong: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the rules broken by settings that are valid alone; skips the settings in `wrong`."""
    p = SimpleNamespace()
    for name, section in raw.items():
        if isinstance(section, dict):
            fine = {k: v for k, v in section.items() if f"{name}.{k}" not in wrong}
            setattr(p, name, SimpleNamespace(**fine))
    reported = set[str]()  # only the first of two rules broken by one setting
    for key, holds, message in CROSS_CHECKS:
        try:
            if key in reported or holds(p):
                continue
        except AttributeError:  # a setting that it needs is missing or wrong, and already reported
            continue
        reported.add(key)
        section, name = key.split(".")
        value = getattr(getattr(p, section), name)
        yield key, f" = {show(value)}: {message.format(p=p)}"
    if "train.init_from" not in wrong:
        yield from ((k, message) for k, message in _unlike_base(p) if k not in wrong | reported)


# What must be the same in a training and in the model that it starts from. The rest may differ:
# rotary positions work for any train.context_length.
SHAPE = ("architecture", "n_layer", "n_head", "n_kv_head", "d_model", "tie_embeddings")


def _unlike_base(p: Any) -> Iterator[tuple[str, str]]:
    """Yield the settings that do not describe the model of train.init_from."""
    given = getattr(getattr(p, "train", None), "init_from", SCRATCH)
    base = base_model(given)
    if base is None:
        return
    from tinyllm.data.tokenizer import Tokenizer
    from tinyllm.models.folder import read_config

    try:
        config, encoding = read_config(base), Tokenizer.load(base).encoding
    except ValueError as error:
        yield (
            "train.init_from",
            f" = {show(given)}: must be {SCRATCH} or a model's folder: {error} (`tinyllm fetch` "
            "copies a model from MLflow or from another revision)",
        )
        return
    wanted = {f"train.{name}": getattr(config, name) for name in SHAPE}
    if encoding.name.startswith("bpe-"):
        wanted |= {"tokenize.encoding": "bpe", "tokenize.vocab_size": encoding.n_vocab}
    else:
        wanted["tokenize.encoding"] = encoding.name
    for key, theirs in wanted.items():
        section, name = key.split(".")
        values = vars(getattr(p, section, SimpleNamespace()))
        own = values.get(name, theirs)
        if own != theirs and not (name == "n_kv_head" and own is None and config.n_head == theirs):
            yield key, f" = {show(own)}: must be {show(theirs)}, as in the model {given}"


def show(value: object) -> str:
    """Format a setting's value for an error, as YAML writes it."""
    text = "null" if value is None else repr(value)
    if isinstance(value, bool):
        text = text.lower()
    return text if len(text) <= 60 else text[:57] + "..."
