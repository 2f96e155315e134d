"""Load YAML that has one meaning: plain values only.

DVC reads and writes params.yaml as YAML 1.2, PyYAML reads it as YAML 1.1, and they disagree:
`dvc exp run -S train.learning_rate=0.00001` writes `1e-05`, which YAML 1.1 reads as text, and a
plain `no` is false in YAML 1.1 only. Here plain values mean what YAML 1.2 says.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

_SCALARS = [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
]


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return, by a scalar's first character, its possible tags and the patterns for them."""
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first in _SCALARS:
        for character in first:
            rule = (f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"))
            table.setdefault(character, []).append(rule)
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = True) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            where = f"line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"{where}: a key must be a plain name")
            if key.value in seen:
                raise ValueError(f"{where}: {key.value!r} is defined twice")
            seen.add(key.value)
        return {key.value: self.construct_object(value, deep) for key, value in node.value}

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > 40:
            raise ValueError(f"line {node.start_mark.line + 1}: the number is too long")
        return int(node.value)  # YAML 1.1 reads 010 as eight

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))

    yaml_constructors: ClassVar[dict[str | None, Callable[..., Any]]] = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:int": construct_yaml_int,
        "tag:yaml.org,2002:float": construct_yaml_float,
        "tag:yaml.org,2002:map": construct_mapping,
    }


def load(text: str) -> Any:
    """Parse one YAML document of mappings, lists, text, numbers, true, false and null.

    Raises:
        ValueError: The text is not YAML, or has duplicate keys, tags or anchors; names the line.
    """
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.TagToken | yaml.AnchorToken | yaml.AliasToken):
                kind = type(token).__name__.removesuffix("Token").lower()
                raise ValueError(f"line {token.start_mark.line + 1}: a YAML {kind} is not allowed")
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (derives from SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from None
    except (yaml.YAMLError, RecursionError, OverflowError) as error:  # "\UFFFFFFFF" overflows
        raise ValueError(f"is not plain YAML: {str(error).splitlines()[0]}") from None
