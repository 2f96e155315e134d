"""Shows what `dvc repro` will run and roughly how long it takes, or every problem that stops it."""

import os
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil
import torch

from tinyllm.common.addresses import without_passwords
from tinyllm.common.files import project_root
from tinyllm.common.os_processes import available_cores
from tinyllm.common.units import about, megabytes
from tinyllm.compiler import missing
from tinyllm.compute import Compute, choose
from tinyllm.data.readers.compression import bounded
from tinyllm.data.readers.raw_folder import FILES
from tinyllm.data.sources.braces import expand
from tinyllm.data.sources.catalogue import CATALOGUE, PACKAGES, check_source
from tinyllm.data.sources.corpus import layout_of
from tinyllm.data.sources.docstrings import docstrings
from tinyllm.data.sources.folder import refusals_named
from tinyllm.data.sources.intake import Reading, with_members
from tinyllm.data.sources.local_files import files_at
from tinyllm.data.sources.unread_files import printable
from tinyllm.data.tokenize.published import SIZES
from tinyllm.experiments.estimate import Estimate, estimate
from tinyllm.experiments.pipeline import places_of
from tinyllm.experiments.sizes import best_in_as_long, corpus_name, expected, read_sizes
from tinyllm.models.config import ModelConfig
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.download import Download
from tinyllm.settings.init_from import base_model
from tinyllm.settings.load import Params, load_params
from tinyllm.settings.tokenize import Tokenize
from tinyllm.tracking.lineage import origin
from tinyllm.training.compiled import keep_kernels
from tinyllm.training.data import check_share, model_config
from tinyllm.training.distributed.launch import processes_here

SHOWN = 3  # documents, packages or addresses
WIDTH = 66  # characters shown of a document
PATIENCE = 2.0  # seconds for reading the first records of files
STATE_BYTES = 16  # of a parameter: its value, gradient and the two averages of AdamW, in fp32
LABEL = 11  # characters, including the spaces after it
# A line of the report: its label, empty if it continues the previous line, and its text.
Row = tuple[str, str]


@dataclass(frozen=True)
class Machine:
    """The processes that will run on this machine; a `compute.Machine`."""

    local_size: int
    size: int
    first: bool = True


def check() -> None:
    """Print what will run.

    Raises:
        ValueError: there are problems; one line each.
    """
    os.chdir(project_root())
    params = load_params(Path("params.yaml"), check_source)
    wrong: list[str] = []
    compute = _try(lambda: _compute(params), wrong)
    corpus = list(_corpus(params.download, wrong))
    base = base_model(params.train.init_from)
    made = places_of("train")["model"]
    if base is not None and base.resolve() == made.resolve():
        wrong.append(
            f"train.init_from = {params.train.init_from!r}: must not be what the stage train "
            f"makes; copy it first with `tinyllm fetch {made} {made.with_name('base')}`"
        )
    if wrong:
        raise ValueError("\n".join([f"{len(wrong)} problem(s):", *wrong]))
    assert compute is not None
    size = vocabulary(params.tokenize)
    config = model_config(params.train, size, end_of_text=size - 1)
    check_memory(config, compute)
    cost = estimate(config, params.train, compute)
    free = shutil.disk_usage(project_root()).free
    if cost.checkpoint > free:
        raise ValueError(
            f"the disk has {megabytes(free)} left, and a checkpoint takes "
            f"{megabytes(cost.checkpoint)}"
        )
    model = [*_model(params, cost), *_weights(base)]
    costs = [*_costs(cost, free, compute), *_expectation(params, cost.parameters)]
    rows = [*corpus, *model, *_machine(params, compute), *costs]
    for label, text in rows:
        print(f"{label:<{LABEL}}{text}")


def _try(find: Callable[[], Compute], wrong: list[str]) -> Compute | None:
    try:
        return find()
    except ValueError as error:
        wrong.append(str(error))
        return None


def _compute(params: Params) -> Compute:
    """The hardware and precision of training.

    Raises:
        ValueError: the device is not available, or the batch can't be shared.
    """
    if params.hardware.compile:
        keep_kernels()
    here = processes_here(params.hardware)
    machine = Machine(local_size=here, size=here * params.hardware.nodes)
    check_share(params.train, machine.size)
    return choose(params.hardware, machine, params.train.flops)


def check_memory(config: ModelConfig, compute: Compute) -> None:
    """See that a model can be trained in the memory there is; activations are not counted.

    Raises:
        ValueError: it is too large, even for building it.
    """
    with torch.device("meta"):
        parameters = TinyLLM(config).n_parameters
    shared = compute.world_size if compute.sharding == "full" else 1
    needed = STATE_BYTES * parameters // shared
    if compute.device == "cuda":
        available, _ = torch.cuda.mem_get_info()
    else:
        available = psutil.virtual_memory().available
    if needed > available:
        raise ValueError(
            f"out of memory: {parameters:,} parameters take {needed / 1e9:,.1f} GB with gradient "
            f"and optimizer state, and {available / 1e9:,.1f} GB are free; make train.d_model or "
            "train.n_layer smaller"
        )


def busy_cores() -> int:
    """How many cores other programs kept busy in the last minute."""
    return min(available_cores(), round(os.getloadavg()[0]))


def vocabulary(settings: Tokenize) -> int:
    """Tokens in the vocabulary; a trained one has fewer if the corpus is tiny."""
    if settings.encoding == "bpe":
        return settings.vocab_size
    if settings.encoding in SIZES:
        return SIZES[settings.encoding]
    import tiktoken

    return tiktoken.get_encoding(settings.encoding).n_vocab  # a plug-in's


# ----- the corpus


def _corpus(settings: Download, wrong: list[str]) -> Iterator[Row]:
    """Describe a corpus without downloading it; problems are added to `wrong`."""
    try:
        if settings.source == PACKAGES:
            yield "corpus", "docstrings of " + ", ".join(settings.packages)
            yield from _packages(settings, wrong)
        elif settings.source == "path":
            yield from _files(settings, wrong)
        else:
            yield from _addresses(settings)
    except ValueError as error:
        wrong.append(str(error))


def _packages(settings: Download, wrong: list[str]) -> Iterator[Row]:
    for package in settings.packages:
        try:
            yield from (("", _line(text)) for text in islice(docstrings(package), SHOWN))
        except ValueError as error:
            wrong.append(str(error))


def _addresses(settings: Download) -> Iterator[Row]:
    if entry := CATALOGUE.get(settings.source):
        yield "corpus", f"{settings.source}: {entry.about}"
        urls = [address.url for address in entry.addresses]
    else:
        urls = [url for given in settings.url or [] for url in expand(given)]
        yield "corpus", f"{len(urls):,} address(es), not looked up"
    yield from (("", without_passwords(url)) for url in urls[:SHOWN])
    if len(urls) > SHOWN:
        yield "", "..."


def _files(settings: Download, wrong: list[str]) -> Iterator[Row]:
    """The files at `download.path`, and the first documents in them."""
    layout = layout_of(settings)
    found = files_at(settings, layout, places_of("download")["raw"] / FILES)
    found = with_members(found, layout, settings.max_bytes)
    size = sum(file.size for file in found)
    yield "corpus", f"{settings.path}: {len(found):,} file(s), {megabytes(size)}"
    if (free := shutil.disk_usage(project_root()).free) < size:
        wrong.append(
            f"download.path: its {megabytes(size)} are copied, and the disk has "
            f"{megabytes(free)} left"
        )
    reading = Reading(layout, bounded(settings.max_bytes, settings.path), lambda _: None)
    shown, deadline = 0, time.monotonic() + PATIENCE
    for file in found:
        if time.monotonic() > deadline:
            break
        try:
            with refusals_named(found):
                texts = [p.text for p in islice(reading.pieces(file.path, file), SHOWN)]
        except ValueError as error:
            wrong.append(str(error))
            continue
        for text in texts[: SHOWN - shown]:
            shown += 1
            yield "", f"{printable(file.name)}: {_line(text)}"


def _line(text: str) -> str:
    """The beginning of a document, in one line."""
    return textwrap.shorten(printable(" ".join(text[:1000].split())), WIDTH, placeholder=" ...")


# ----- what will run


def _model(params: Params, cost: Estimate) -> Iterator[Row]:
    settings = params.train
    yield (
        "model",
        f"{settings.architecture}, {cost.parameters:,} parameters: {settings.n_layer} layers, "
        f"{settings.n_head} heads, width {settings.d_model}, "
        f"{vocabulary(params.tokenize):,} tokens ({params.tokenize.encoding})",
    )
    tokens = settings.batch_size * settings.context_length
    yield (
        "training",
        f"{settings.max_steps:,} steps of {tokens:,} tokens ({settings.batch_size} sequences of "
        f"{settings.context_length}), {settings.max_steps * tokens:,} in all, with "
        f"{settings.optimizer}",
    )


def _weights(base: Path | None) -> Iterator[Row]:
    """The model that training starts from."""
    if base is not None:
        address = origin(base).get("address")
        yield "weights", f"of {base}" + (f", from {address}" if address else "")


def _machine(params: Params, compute: Compute) -> Iterator[Row]:
    several = f", {compute.world_size} processes" if compute.world_size > 1 else ""
    yield (
        "machine",
        f"{compute.device} ({compute.device_name}), {compute.precision}, {compute.threads} "
        f"thread(s){several}",
    )
    lacking = missing(compute.device)
    yield (
        "",
        f"{'compiled' if compute.compiled else 'not compiled'} (hardware.compile: "
        f"{str(params.hardware.compile).lower()})"
        + (f"; torch can't compile here: {lacking}" if lacking else ""),
    )


def _costs(cost: Estimate, free: int, compute: Compute) -> Iterator[Row]:
    yield "disk", f"{free / 1e9:,.1f} GB free, {megabytes(cost.checkpoint)} a checkpoint"
    if cost.evaluating is None:
        shown = f"{about(cost.training)} to train, and the evaluations (train.eval_tokens: null)"
    else:
        shown = f"{about(cost.training + cost.evaluating)} to train"
    yield "time", shown
    if compute.compiled:
        yield "", "measured without the compiler, with which a step takes less time"
    if busy := busy_cores():
        yield "", f"other programs use {busy} of this machine's cores; without them it is faster"


def _expectation(params: Params, parameters: int) -> Iterator[Row]:
    """The score that such a training reached (docs/sizes.md), if there was one."""
    settings, results = params.train, read_sizes()
    tokens = settings.max_steps * settings.batch_size * settings.context_length
    found = expected(results, corpus_name(params.download), parameters, tokens)
    if found and base_model(settings.init_from) is None:
        score, longer = found
        yield "score", f"about {score:.2f} bits per byte of the test split (docs/sizes.md)"
        best = best_in_as_long(results, longer)
        if best.size != longer.size:
            yield "", f"in {longer.minutes:g} min, {best.size} M parameters learn the most there"
