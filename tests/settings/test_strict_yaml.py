"""Plain YAML is read like DVC reads it, as YAML 1.2."""

import math
from typing import Any

import pytest

from tinyllm.settings import strict_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("~", None),
        ("null", None),
        ("", None),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("12", 12),
        ("+12", 12),
        ("010", 10),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-11-20", "2026-11-20"),
        ("1e-05", 1e-5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.Inf", -math.inf),
        ("e5", "e5"),
        ("1e", "1e"),
        ("'12'", "12"),
        ('"a\\nb"', "a\nb"),
        ("[1, a, ~]", [1, "a", None]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("# nothing\na: 1  # one", {"a": 1}),
        ("1: 2", {"1": 2}),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    loaded = strict_yaml.load(f"key: {text}\n" if "\n" not in text and ": " not in text else text)
    if isinstance(loaded, dict) and "key" in loaded:
        loaded = loaded["key"]
    assert loaded == value and type(loaded) is type(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_not_a_number(text: str) -> None:
    assert math.isnan(strict_yaml.load(text))


def test_an_error_names_its_line() -> None:
    with pytest.raises(ValueError, match=r"^line 3: 'a' is defined twice$"):
        strict_yaml.load("a: 1\nb: 2\na: 3\n")
    with pytest.raises(ValueError, match=r"^line 4: 'd' is defined twice$"):
        strict_yaml.load("a: 1\nb:\n  d: 2\n  d: 3\n")
    with pytest.raises(ValueError, match=r"^line 2: .*expected"):
        strict_yaml.load("a: [1\nb: 2\n")
