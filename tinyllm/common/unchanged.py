"""Refuse a result whose settings, code or inputs changed while it was made."""

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
    """What a stage is made from, taken before its work and compared at its end.

    DVC hashes what a stage depends on after its command, so that it would record what was not used
    (https://github.com/iterative/dvc/issues/11058). What changes between the comparison and DVC's
    own hash is still recorded wrongly, so a stage compares last, just before it publishes.

    Made first thing in a stage, before it imports what it runs and reads what it uses: then a
    change at any later time is seen. Used as the innermost context around what the stage makes: it
    compares when that ends, and also when it fails, which may be because something changed.

    Args:
        stage: its name.
        inputs: files and folders that it reads.
        params: params.yaml.
        sections: those sections of it that the stage depends on, or single keys of them.
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
        """Add what something is now, and will have to be at the end.

        Args:
            is_as_read: whether a part that differs then has the content that was read all the same.
        """
        self._takes.append((take, take(), is_as_read))

    def __enter__(self) -> "MadeFrom":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if error is None or isinstance(error, (ValueError, OSError)):
            self.check()

    def check(self) -> None:
        """Compare what there is now with what there was.

        Raises:
            ValueError: names what changed.
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
                f"changed while {self.stage} ran: {shown}{more}; the result belongs to neither "
                "state, so it is not published. Undo or keep the change"
            )


def _differences(before: Parts, now: Parts, is_as_read: Callable[[str], bool]) -> list[str]:
    touched = {
        name: before[name]
        for name in before.keys() & now.keys()
        if before[name] != now[name] and is_as_read(name)
    }
    return Fingerprint(before).differences(Fingerprint(now | touched))


def _forget_stale_bytecode(module: str) -> None:
    """Have Python compile what was edited since it was compiled.

    Python compares the size of the source, and its time in whole seconds: after an edit within the
    second it would run the code from before.
    """
    for name in files_of(module):
        source = ROOT / name
        compiled = Path(importlib.util.cache_from_source(str(source)))
        if compiled.exists() and compiled.stat().st_mtime_ns <= source.stat().st_ctime_ns:
            compiled.unlink(missing_ok=True)


def _of_settings(params: Path, sections: Sequence[str]) -> Parts:
    """The settings of some sections, as they are written; what is wrong in them is found later."""
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
