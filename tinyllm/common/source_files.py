"""Find the project files that decide what a module computes: its own file and all its imports."""

import ast
import re
from functools import cache
from pathlib import Path

# Files beside the modules of a package that they read: templates, styles, scripts, tables.
DATA = (".css", ".html", ".js", ".json")
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tinyllm", "stages")
REFERENCE = re.compile(r"\w+(\.\w+)*:\w+")  # the format of pkgutil.resolve_name
# Modules and packages that decide no result, and why. No stage depends on them, so a changed
# progress bar does not train the model again. A test changes them and compares the outputs.
NO_RESULT = {
    "tinyllm.common.console": "prints, and chooses the exit status",
    "tinyllm.common.unchanged": "refuses a result whose inputs changed, and makes none",
    "tinyllm.evaluation.record": "describes an evaluation's run",
    "tinyllm.experiments": "checks and repeats runs, and describes where they come from",
    "tinyllm.serving": "records the model for MLflow to log and serve",
    "tinyllm.settings.cross_checks": "refuses settings; their values are compared elsewhere",
    "tinyllm.settings.load": "checks all settings; a stage depends on its own sections only",
    "tinyllm.settings.runtime": "settings that change no result",
    "tinyllm.settings.strict_yaml": "refuses YAML that parsers read differently",
    "tinyllm.tracking": "records a run and sends it to MLflow",
    "tinyllm.training.display": "shows a training in the terminal, and records it",
}


def files_of(module: str) -> list[Path]:
    """Return the source files that decide what a module computes, relative to the project root.

    Imports inside functions and the packages that contain a module count too, with the data files
    of these packages. NO_RESULT and the modules that only it imports are excluded.

    Args:
        module: Dotted name, like "stages.train".
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
            if path.name == "__init__.py":
                found.update(file for file in path.parent.iterdir() if file.suffix in DATA)
            for imported in _imports(path.read_bytes()):
                _collect(imported, found)


def _source(parts: list[str]) -> Path | None:
    base = ROOT.joinpath(*parts)
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache  # a stage looks four times, and parsing takes 0.1 s
def _imports(code: bytes) -> tuple[str, ...]:
    """The project's names that a module imports; `from a import b` may mean the module a.b.

    A string like "a.b:c" is a reference to c in the module a.b and counts as an import.
    """
    try:
        tree = ast.parse(code)
    except SyntaxError:  # being edited; running it raises its own error
        return ()
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and REFERENCE.fullmatch(str(node.value)):
            found.append(str(node.value).partition(":")[0])
    return tuple(name for name in found if name.split(".")[0] in PACKAGES)
