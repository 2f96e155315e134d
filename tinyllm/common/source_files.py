"""Which of this project's files decide what a module computes: its own and all that it imports."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tinyllm", "stages")
REFERENCE = re.compile(r"\w+(\.\w+)*:\w+")  # as pkgutil.resolve_name takes it
# Modules and packages that decide no result, and why. No stage depends on them, so that a changed
# progress bar trains nothing again. A test changes what they do and compares the outputs.
NO_RESULT = {
    "tinyllm.common.console": "prints, and chooses the exit status",
    "tinyllm.common.unchanged": "refuses a result whose inputs changed, and makes none",
    "tinyllm.settings.cross_checks": "refuses settings; DVC compares their values by itself",
    "tinyllm.settings.load": "as above, and it would tie each stage to the settings of all",
    "tinyllm.settings.runtime": "settings that change no result",
    "tinyllm.settings.strict_yaml": "refuses what YAML readers understand differently",
    "tinyllm.tracking": "records a run and sends it to MLflow",
    "tinyllm.training.display": "shows a training in the terminal, and records it",
}


def files_of(module: str) -> list[Path]:
    """Source files that decide what a module computes, relative to the project's root.

    Imports within functions count too, and so do the packages that a module lies in. NO_RESULT is
    left out, with what only it imports.

    Args:
        module: dotted name, like "stages.train".
    """
    found: set[Path] = set()
    _collect(module, found)
    return sorted(path.relative_to(ROOT) for path in found)


def _collect(name: str, found: set[Path]) -> None:
    parts = name.split(".")
    if any(".".join(parts[:length]) in NO_RESULT for length in range(1, len(parts) + 1)):
        return
    for length in range(1, len(parts) + 1):
        path = _source(parts[:length])
        if path is not None and path not in found:
            found.add(path)
            for imported in _imports(path):
                _collect(imported, found)


def _source(parts: list[str]) -> Path | None:
    base = ROOT.joinpath(*parts)
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Names of this project that a file imports; `from a import b` may mean the module a.b.

    A text like "a.b:c" is a reference to c in the module a.b, and counts as an import of it.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # somebody is editing it; running it is an error of its own
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and REFERENCE.fullmatch(str(node.value)):
            names = [str(node.value).partition(":")[0]]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)
