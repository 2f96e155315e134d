"""Measure how much code a reader follows: for one training step, and for one document.

python -m benchmarks.reading

A step: the functions of this project that a step of the loop calls, with the plain formulas, and
their lines. A document: the modules of which a function holds its text, from `stages.download` to
the token shard; those that only check the text (for HTML, binary data, wrong encodings) are listed
separately.
"""

import contextlib
import inspect
import io
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest import mock

import numpy as np
import torch

from tinyllm.models import formulas
from tinyllm.models.config import ModelConfig
from tinyllm.models.registry import TinyLLM
from tinyllm.settings.load import load_params
from tinyllm.training import loop
from tinyllm.training.optimizers.registry import make_optimizer
from tinyllm.training.state import TrainState

ROOT = Path(__file__).parents[1]
MARK = "quokka"  # occurs in the followed document only
CHECKS = {"detecting", "evidence", "guessing", "markup", "findings"}
Profile = Callable[[FrameType, str, Any], None]


class Silent:
    """A `Watcher` and `Saver` of one step."""

    def step(self, step: int, values: dict[str, float]) -> None: ...
    def evaluation(self, step: int, scores: Any, best: bool) -> None: ...
    def between_steps(self, state: TrainState) -> None:
        state.finished = True


def main() -> None:
    functions = step_functions()
    lines = {code: len(inspect.getsourcelines(code)[0]) for code in functions}
    print(f"A step: {sum(lines.values())} lines in {len(lines)} functions")
    for module in dict.fromkeys(code.co_filename for code in lines):
        here = {code.co_qualname: n for code, n in lines.items() if code.co_filename == module}
        print(f"  {sum(here.values()):4} {_name(module)}: {', '.join(here)}")
    modules = document_modules()
    way = [module for module in modules if Path(module).stem not in CHECKS]
    print(f"A document: {len(way)} modules: {', '.join(way)}")
    print(f"  and {len(modules) - len(way)} that check it: {', '.join(set(modules) - set(way))}")


def step_functions() -> list[CodeType]:
    """The functions that one step calls, in order of their first call."""
    settings = load_params(ROOT / "params.yaml").train.model_copy(
        update={
            "max_steps": 3,
            "decay_steps": 3,
            "batch_size": 2,
            "eval_interval": 100,
            "save": "last",
        }
    )
    config = ModelConfig(
        vocab_size=64, n_layer=1, n_head=2, n_kv_head=2, d_model=16, context_length=8,
        architecture=settings.architecture,
    )  # fmt: skip
    model = TinyLLM(config, torch.Generator().manual_seed(1))
    state = TrainState(model, make_optimizer(model, settings))
    state.step = 1  # step 0 evaluates first
    tokens = torch.randint(64, (2, 9), generator=torch.Generator().manual_seed(1))
    found: dict[CodeType, None] = {}

    def record(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and _is_ours(code) and not code.co_name.startswith("<"):
            found[code] = None

    silent = Silent()
    plain = mock.patch.object(formulas, "uses_cpu_kernels", return_value=False)
    with plain, following(record):
        batches = iter([(tokens[:, :-1], tokens[:, 1:])])
        loop.train(state, batches, {}, settings, 1, silent, silent)
    return list(found)


def document_modules() -> list[str]:
    """The modules that hold a document's text or token ids, in order of first use."""
    found: dict[str, None] = {}

    def record(frame: FrameType, event: str, arg: Any) -> None:
        if event in ("call", "return") and _is_ours(frame.f_code):
            held = (arg, *frame.f_locals.values())
            if any(map(_holds_document, held)):
                found.setdefault(_name(frame.f_code.co_filename))

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _write_project(Path(folder))
        with following(record):
            _run_stage("download", raw="raw")
            _run_stage("tokenize", raw="raw", tokenizer="bpe", tokens="tokens", reports="reports")
    return list(found)


def _write_project(folder: Path) -> None:
    """A project with a corpus of one JSON Lines file."""
    texts = (f"{MARK} " + chr(97 + number) * 9 for number in range(26))
    Path(folder, "corpus").mkdir()
    Path(folder, "corpus", "a.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8"
    )
    settings = (ROOT / "params.yaml").read_text(encoding="utf-8")
    settings = settings.replace("source: docstrings", "source: path")
    settings = settings.replace("vocab_size: 2048", "vocab_size: 300")
    Path(folder, "params.yaml").write_text(settings, encoding="utf-8")


def _run_stage(name: str, **folders: str) -> None:
    from importlib import import_module

    stage = import_module(f"stages.{name}")
    before, os.environ["TINYLLM_ROOT"] = sys.argv, str(Path.cwd())
    arguments = (f"--{option}={folder}" for option, folder in folders.items())
    sys.argv = [name, "--params=params.yaml", *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            stage.main()
    finally:
        sys.argv = before


def _holds_document(value: Any, depth: int = 0) -> bool:
    """Whether a value is, or directly contains, the text or token ids of a document."""
    if isinstance(value, str):
        return MARK in value[:1000]
    if isinstance(value, bytes):
        return MARK.encode() in value[:1000]
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint16 and value.size > 0
    return (
        depth < 2
        and isinstance(value, list | tuple)
        and any(_holds_document(part, depth + 1) for part in value[:4])
    )


@contextlib.contextmanager
def following(profile: Profile) -> Iterator[None]:
    """Call `profile` at each call and return in the block, in all threads."""
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(f"{ROOT}{os.sep}") and "/benchmarks/" not in code.co_filename


def _name(file: str) -> str:
    return Path(file).relative_to(ROOT).as_posix()


if __name__ == "__main__":
    main()
