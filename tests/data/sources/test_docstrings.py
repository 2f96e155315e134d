"""Docstrings are read from an installed package without running its code."""

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tinyllm.data.sources.docstrings import docstrings, licence

Install = Callable[[dict[str, str | bytes]], Path]

FILES: dict[str, str | bytes] = {
    "mock_grain/__init__.py": '"""The package."""\nraise SystemExit("its code must not run")\n',
    "mock_grain/b.py": '''
class Mill:
    """Grinds."""

    def grind(self):
        """Make flour.

            Indented.

        Not.
        """

    async def wait(self): "Until it is done."

def helper():
    """Grinds."""

def silent():
    """   """

def plain():
    x = 1
    """No docstring: not the first statement."""
''',
    "mock_grain/a.py": "# -*- coding: latin-1 -*-\n'''Caf\xe9.'''\n".encode("latin-1"),
    "mock_grain/tests/test_mill.py": '"""A test."""',
    "mock_grain/test/other.py": '"""Another test."""',
    "mock_grain/data.txt": '"""No Python."""',
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a package of the given files as `mock-grain` 1.2."""

    def install(files: dict[str, str | bytes]) -> Path:
        info = "mock_grain-1.2.dist-info"
        metadata = "Metadata-Version: 2.1\nName: mock-grain\nVersion: 1.2\nLicense: Oat\n"
        record = "".join(f"{name},,\n" for name in [*files, f"{info}/METADATA", f"{info}/RECORD"])
        content = {**files, f"{info}/METADATA": metadata, f"{info}/RECORD": record}
        for name, text in content.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    return install


def test_each_docstring_occurs_once_without_those_of_tests(install: Install) -> None:
    install(FILES)
    found = list(docstrings("mock-grain==1.2"))
    assert sorted(found) == [
        "Café.",
        "Grinds.",
        "Make flour.\n\n    Indented.\n\nNot.",
        "The package.",
        "Until it is done.",
    ]
    assert "mock_grain" not in sys.modules


def test_docstrings_of_a_file_have_the_order_of_the_source(install: Install) -> None:
    method = 'class A:\n    """1"""\n    def f(self):\n        """2"""\n'
    inner = 'if 1:\n    def g():\n        """3"""\n'
    install({"mock_grain/__init__.py": method + inner + 'class B:\n    """4"""\n'})
    assert list(docstrings("mock-grain==1.2")) == ["1", "2", "3", "4"]


def test_files_are_sorted_by_name(install: Install) -> None:
    install(FILES)
    first = list(docstrings("mock-grain==1.2"))
    assert first[:3] == ["The package.", "Café.", "Grinds."]
    # The order in the installer's record does not matter.
    install(dict(reversed(FILES.items())))
    assert list(docstrings("mock-grain==1.2")) == first


def test_the_installed_version_must_match(install: Install) -> None:
    install(FILES)
    with pytest.raises(ValueError, match=r"^download\.packages: mock-grain 1\.2 is .*not 1\.3"):
        list(docstrings("mock-grain==1.3"))
    with pytest.raises(ValueError, match=r"^download\.packages: mock-oat is not installed"):
        list(docstrings("mock-oat==1.2"))


def test_a_package_without_docstrings_is_an_error(install: Install) -> None:
    install({"mock_grain/__init__.py": "x = 1\n"})
    with pytest.raises(ValueError, match="no docstrings"):
        list(docstrings("mock-grain==1.2"))


def test_a_file_that_is_not_python_is_named(install: Install) -> None:
    install(FILES | {"mock_grain/template.py": "class {{ name }}:\n    pass\n"})
    with pytest.raises(ValueError, match=r"mock_grain/template\.py"):
        list(docstrings("mock-grain==1.2"))


def test_the_licence_comes_from_the_metadata(install: Install) -> None:
    install(FILES)
    assert licence("mock-grain") == "Oat"
    assert licence("pandas")


def test_a_real_package() -> None:
    version = importlib.metadata.version("numpy")
    found = list(docstrings(f"numpy=={version}"))
    assert len(found) > 1000
    assert len(set(found)) == len(found)
    assert any(text.startswith("Return the sum") or "Parameters\n----" in text for text in found)
