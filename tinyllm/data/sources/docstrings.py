"""Docstrings of installed packages: real prose and examples without the network.

`ast` parses the files; no code of the package runs.
"""

import ast
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(requirement: str) -> Iterator[str]:
    """Yield each distinct docstring of a package, except those of its tests.

    The order is the same on every platform: by file name, then by position in the source.

    Args:
        requirement: Package and version, like "pandas==3.1.1".

    Raises:
        ValueError: The package is missing, has another version, or contains no Python source.
    """
    package = installed(requirement)
    seen: set[str] = set()
    for path in source_files(package):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:  # templates, or syntax of another Python version
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
            f"install {requirement}, or set it to {package}=={found}"
        )
    return package


def _in_source_order(node: ast.AST) -> Iterator[str]:
    """Yield the docstrings of a syntax tree and of everything defined in it."""
    text = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
    if text:
        yield text
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):  # expressions define nothing
            yield from _in_source_order(child)


def licence(package: str) -> str | None:
    """Return the licence in an installed package's metadata, if any."""
    metadata = importlib.metadata.metadata(package)
    classifiers = metadata.get_all("Classifier", [])
    names = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License :: ")]
    stated = metadata.get_all("License-Expression", []) or names or metadata.get_all("License", [])
    return stated[0].splitlines()[0] if stated else None


def source_files(package: str) -> list[Path]:
    """Return the Python files that a package installs, without tests, in a fixed order."""
    files = [
        file
        for file in importlib.metadata.files(package) or []
        if file.suffix == ".py" and not {"tests", "test", ".."} & set(file.parts)
    ]
    return [Path(str(file.locate())) for file in sorted(files, key=lambda file: file.as_posix())]
