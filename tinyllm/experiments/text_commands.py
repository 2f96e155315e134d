"""`tinyllm generate` and `tinyllm score`: options and settings in, text out."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinyllm.common.files import project_root
from tinyllm.compute import device_for, set_up, threads_for
from tinyllm.evaluation.text_report import print_json, print_text
from tinyllm.evaluation.text_scores import Kind, documents_of, score_text
from tinyllm.experiments import model_address
from tinyllm.generation import terminal
from tinyllm.generation.options import options
from tinyllm.generation.text import TextGenerator
from tinyllm.models.model import Model
from tinyllm.settings.load import Params, load_params

# Parameters up to which a second thread slows the generation of a text down (docs/log.md).
ONE_THREAD = 20_000_000


def generate(
    prompt: str | None,
    address: str | None,
    revision: str | None,
    given: Mapping[str, str | None],
    stop: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Generate text for a prompt, for standard input, or for each line typed at the terminal.

    Raises:
        ValueError: options are wrong, the model is missing or corrupt, or the input is not UTF-8.
    """
    params = settings()
    chosen = options(given, stop, params)
    interactive = prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    if prompt is None and not interactive:
        prompt = read(Path("-")).removesuffix("\n")  # which ends the last line
    model, tokenizer = model_address.load(address, revision)
    small = model.n_parameters <= ONE_THREAD and chosen.samples == 1
    place(model, params, 1 if small else None)
    generator = TextGenerator(model, tokenizer)
    if prompt is None:
        terminal.converse(generator, chosen, as_json=as_json)
    else:
        terminal.show(generator, prompt, chosen, as_json=as_json)


def score(
    file: str,
    address: str | None,
    revision: str | None,
    by: Kind,
    separator: str | None,
    *,
    as_json: bool,
) -> None:
    """Score a text file, or standard input for `-`.

    Raises:
        ValueError: the file is missing, empty or not UTF-8, or the model is missing or corrupt.
    """
    params = settings()
    if separator == "":
        raise ValueError("--separator '': must not be empty")
    if separator is None and params is not None:
        separator = params.download.separator
    documents = documents_of(read(Path(file)), separator)
    if not documents:
        raise ValueError(f"{name_of(Path(file))}: contains no text")
    model, tokenizer = model_address.load(address, revision)
    place(model, params, None)
    how = {} if params is None else params.evaluate.model_dump(include={"stride", "batch_size"})
    parts = score_text(model, tokenizer, documents, by, **how)
    (print_json if as_json else print_text)(parts, by)


def settings() -> Params | None:
    """The settings of the project that the current folder is in; None outside of one."""
    path = project_root() / "params.yaml"
    return load_params(path) if path.is_file() else None


def place(model: Model, params: Params | None, threads: int | None) -> None:
    """Move a model to the device in the settings, and set up torch."""
    hardware = None if params is None else params.hardware
    set_up(threads_for((hardware and hardware.threads) or threads))
    model.to(device_for("auto" if hardware is None else hardware.device, verbose=False))


def read(path: Path) -> str:
    """Read a text file in UTF-8, byte for byte; - is standard input.

    Raises:
        ValueError: it is missing or not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name_of(path)}: is not UTF-8 (byte {error.start:,})") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def name_of(path: Path) -> str:
    """What a message calls a file."""
    return "standard input" if str(path) == "-" else str(path)
