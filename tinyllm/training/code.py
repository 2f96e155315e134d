"""Which of this project's files a module runs: its own and all it imports, directly or not."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tinyllm", "stages")


def files_of(module: str) -> list[Path]:
    """Source files that a module of this project consists of, relative to the project's root.

    Imports within functions count too, and so do the packages that a module lies in.

    Args:
        module: dotted name, like "stages.train".
    """
    found: set[Path] = set()
    _collect(module, found)
    return sorted(path.relative_to(ROOT) for path in found)


def _collect(name: str, found: set[Path]) -> None:
    parts = name.split(".")
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
    """Names of this project that a file imports; `from a import b` may mean the module a.b."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)
