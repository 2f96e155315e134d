"""Prints generated text as it comes: to a terminal, to a pipe or as JSON."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tinyllm.common.console import has_colours, is_closed, visible
from tinyllm.generation.options import Options
from tinyllm.generation.text import Completion, TextGenerator

PROMPT = "> "  # of the interactive mode
DIM, RESET = "\x1b[2m", "\x1b[0m"


def converse(generator: TextGenerator, options: Options, *, as_json: bool) -> None:
    """Read prompts from the terminal and generate text for each, until an empty line or Ctrl-D.

    Each text has a seed of its own: one more than that of the last.
    """
    with suppress(ImportError):  # Python may be built without it
        import readline  # noqa: F401 (input() then edits the line)
    print(dimmed("A line is a prompt. An empty line or Ctrl-D ends.\n"), end="")
    while True:
        try:
            prompt = input(PROMPT)
        except EOFError:
            print()
            return
        if not prompt:
            return
        show(generator, prompt, options, as_json=as_json)
        options = replace(options, seed=options.seed + 1)


def show(generator: TextGenerator, prompt: str, options: Options, *, as_json: bool) -> None:
    """Generate texts for a prompt and print them."""
    if as_json:
        _print_json(generator, prompt, options)
        return
    try:
        _print_text(generator, prompt, options)
    except KeyboardInterrupt:
        print(flush=True)  # what follows begins on a new line
        raise


def _print_text(generator: TextGenerator, prompt: str, options: Options) -> None:
    """Print each text after its prompt: the first as it is generated, then the others."""
    count, clean = options.samples, _cleaner()
    texts = [""] * count
    for index in range(count):
        if count > 1:
            print(dimmed(f"[{index + 1}/{count}]\n"), end="")
        print(dimmed(clean(prompt)), end="", flush=True)
        if index == 0:
            pieces = generator.stream(
                [prompt] * count, options.sampling, seed=options.seed, stop=options.stop
            )
            for new in pieces:
                texts = [text + piece for text, piece in zip(texts, new, strict=True)]
                print(clean(new[0]), end="", flush=True)
                if is_closed(sys.stdout):
                    return
        else:
            print(clean(texts[index]), end="")
        print("" if (prompt + texts[index]).endswith("\n") else "\n", end="", flush=True)


def _print_json(generator: TextGenerator, prompt: str, options: Options) -> None:
    """Print each text as a JSON object in one line, with its tokens."""
    completions = generator.complete(
        [prompt] * options.samples,
        options.sampling,
        seed=options.seed,
        stop=options.stop,
        scored=True,
    )
    for index, completion in enumerate(completions):
        record = {
            "prompt": prompt,
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "seed": options.seed,
            "index": index,
            "tokens": _tokens(generator, completion),
        }
        print(json.dumps(record), flush=True)  # in ASCII, for any encoding of the terminal


def _tokens(generator: TextGenerator, completion: Completion) -> list[dict[str, Any]]:
    """Each token with its text, in which an incomplete character is U+FFFD."""
    return [
        {"id": token, "text": generator.tokenizer.decode([token]), "log_probability": value}
        for token, value in zip(completion.tokens, completion.log_probabilities, strict=True)
    ]


def dimmed(text: str) -> str:
    """The text in a paler colour, if standard output has colours."""
    return f"{DIM}{text}{RESET}" if text and has_colours(sys.stdout) else text


def _cleaner() -> Callable[[str], str]:
    """What makes text safe to print: on a terminal, control characters are escaped."""
    return visible if sys.stdout.isatty() else str
