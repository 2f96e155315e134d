"""Docstrings of installed packages: real prose and examples that need no network.

They are read with `ast`; no code of the package is run.
"""

import ast
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(requirement: str) -> Iterator[str]:
    """Yield each distinct docstring of a package, its tests left out.

    The order is that of the files' names, then of the source, on every platform.

    Args:
        requirement: package and version, like "pandas==3.1.1".

    Raises:
        ValueError: the package is not installed, in another version, or without Python source.
    """
    package = installed(requirement)
    seen: set[str] = set()
    for path in source_files(package):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:  # templates, or another version's Python
            raise ValueError(f"download.packages: {path} can't be read: {error}") from None
        for text in _in_source_order(tree):
            if text not in seen:
                seen.add(text)
                yield text
    if not seen:
        raise ValueError(f"download.packages: {package} has no docstrings in Python source")


def installed(requirement: str) -> str:
    """The name of a package that is installed in the version wanted.

    Args:
        requirement: package and version, like "pandas==3.1.1".

    Raises:
        ValueError: it is not installed, or in another version.
    """
    package, wanted = requirement.split("==")
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(f"download.packages: {package} is not installed") from None
    if found != wanted:
        raise ValueError(
            f"download.packages: {package} {found} is installed, not {wanted}; "
            f"install {requirement} or write {package}=={found}"
        )
    return package


def _in_source_order(node: ast.AST) -> Iterator[str]:
    """The docstrings of a piece of source and of all that is defined in it."""
    text = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
    if text:
        yield text
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):  # nothing is defined within one
            yield from _in_source_order(child)


def licence(package: str) -> str | None:
    """The licence that an installed package states of itself, if it does."""
    metadata = importlib.metadata.metadata(package)
    classifiers = metadata.get_all("Classifier", [])
    names = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License :: ")]
    stated = metadata.get_all("License-Expression", []) or names or metadata.get_all("License", [])
    return stated[0].splitlines()[0] if stated else None


def source_files(package: str) -> list[Path]:
    """Python files of the modules that a package installs, tests left out, in a fixed order."""
    files = [
        file
        for file in importlib.metadata.files(package) or []
        if file.suffix == ".py" and not {"tests", "test", ".."} & set(file.parts)
    ]
    return [Path(str(file.locate())) for file in sorted(files, key=lambda file: file.as_posix())]
