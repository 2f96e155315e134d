"""Refuse to publish a result whose settings, code or inputs changed during the run."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tinyllm.common.errors import RunAgain
from tinyllm.common.fingerprint import (
    Fingerprint,
    Parts,
    is_as_sealed,
    of_code,
    of_content,
    of_state,
)
from tinyllm.common.source_files import ROOT, files_of
from tinyllm.settings import strict_yaml


class MadeFrom:
    """The inputs of a stage, recorded before its work and compared at its end.

    DVC hashes a stage's dependencies after its command, so it would record files that the stage did
    not use (https://github.com/iterative/dvc/issues/11058). A change between the comparison and
    DVC's own hash is still recorded wrongly, so a stage compares last, just before it publishes.

    Create it first in a stage, before its code is imported and its inputs are read: it finds every
    later change. Use it as the innermost context manager around the work. It compares on exit, and
    also if the work fails, since a change may be the reason.

    Args:
        stage: Name of the stage.
        inputs: Files and folders that it reads.
        params: Path of params.yaml.
        sections: Sections, or single keys like "hardware.device", that the stage depends on.
    """

    def __init__(
        self,
        stage: str,
        inputs: Sequence[Path] = (),
        params: Path | None = None,
        sections: Sequence[str] = (),
    ) -> None:
        self.stage = stage
        self.inputs = inputs
        _forget_stale_bytecode(f"stages.{stage}")
        self._takes: list[tuple[Callable[[], Parts], Parts, Callable[[str], bool]]] = []
        self.add(lambda: of_code(f"stages.{stage}") | of_content([ROOT / "requirements.lock"]))
        self.add(lambda: of_state(inputs), is_as_sealed)
        if params is not None:
            self.add(lambda: _of_settings(params, sections))

    def add(
        self, take: Callable[[], Parts], is_as_read: Callable[[str], bool] = lambda _: False
    ) -> None:
        """Record the current state of something that must be the same at the end.

        Args:
            is_as_read: Returns whether a part that differs still has the content that was read.
        """
        self._takes.append((take, take(), is_as_read))

    def reads(self, path: Path | None) -> None:
        """Record a further input, which the settings name; None if they name none."""
        if path is not None:
            self.add(lambda: of_state([path]), is_as_sealed)

    def __enter__(self) -> "MadeFrom":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if error is None or isinstance(error, (ValueError, OSError)):
            self.check()

    def check(self) -> None:
        """Compare the current state with the recorded one.

        Raises:
            ValueError: Something changed; the message names it.
        """
        changed = [
            name
            for take, before, is_as_read in self._takes
            for name in _differences(before, take(), is_as_read)
        ]
        if changed:
            shown = ", ".join(changed[:5])
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise RunAgain(
                f"changed while {self.stage} ran: {shown}{more}; the result matches neither "
                "version, so it is not published. Keep or undo the change"
            )


def _differences(before: Parts, now: Parts, is_as_read: Callable[[str], bool]) -> list[str]:
    touched = {
        name: before[name]
        for name in before.keys() & now.keys()
        if before[name] != now[name] and is_as_read(name)
    }
    return Fingerprint(before).differences(Fingerprint(now | touched))


def _forget_stale_bytecode(module: str) -> None:
    """Delete bytecode that is older than its source file.

    Python compares the size of the source, and its time in whole seconds: after an edit within the
    same second it would run the old code.
    """
    for name in files_of(module):
        source = ROOT / name
        compiled = Path(importlib.util.cache_from_source(str(source)))
        if compiled.exists() and compiled.stat().st_mtime_ns <= source.stat().st_ctime_ns:
            compiled.unlink(missing_ok=True)


def _of_settings(params: Path, sections: Sequence[str]) -> Parts:
    """Return the settings of some sections as written; their values are checked elsewhere."""
    try:
        settings = strict_yaml.load(params.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{params.name}: {error}") from None
    parts: Parts = {}
    for name in sections if isinstance(settings, Mapping) else ():
        section, _, key = name.partition(".")
        value = settings.get(section)
        if isinstance(value, Mapping):
            keys = [key] if key else list(value)
            parts |= {f"{section}.{each}": repr(value.get(each)) for each in keys}
        else:
            parts[name] = repr(value)
    return parts
