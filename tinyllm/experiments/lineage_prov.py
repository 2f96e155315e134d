"""A lineage as PROV-JSON, the W3C's format for where data come from.

https://www.w3.org/submissions/prov-json/. PROV describes several activities with what each used and
made, as this pipeline has; a SLSA provenance describes a single build. What is missing is an
attribute of the model's entity.
"""

from importlib.metadata import version
from typing import Any

from tinyllm.experiments.lineage import Facts, Lineage

PREFIX = {"tinyllm": "urn:tinyllm:"}
Records = dict[str, dict[str, Any]]


def prov(found: Lineage) -> dict[str, Any]:
    """The PROV-JSON document of a lineage."""
    entities: Records = {
        "corpus": _attributes(found.corpus, "the text"),
        "raw": _attributes(found.data, "the documents that were downloaded or read"),
        "tokenizer": _attributes(found.tokenizer, "the tokenizer"),
        **{
            _split(name): _attributes(facts, f"the {name} split")
            for name, facts in found.splits.items()
        },
        "settings": _attributes(found.settings, "the settings"),
        "code": _attributes(found.code, "the code"),
        "environment": _attributes(found.environment, "machine and versions"),
        "weights": _attributes(found.weights | found.places, "the model")
        | ({"tinyllm:missing": found.missing} if found.missing else {}),
        "scores": _attributes(found.scores, "scores of the model"),
    }
    splits = [_split(name) for name in found.splits]
    test = [name for name in splits if name == _split("test")]
    trained_on = ["tokenizer", *(name for name in splits if name not in test)]
    # Each activity, what it used besides code and settings, and what it made.
    activities: dict[str, tuple[list[str], list[str]]] = {
        "download": (["corpus"], ["raw"]),
        "tokenize": (["raw"], ["tokenizer"]),
        "split": (["raw", "tokenizer"], splits),
        "train": ([*trained_on, "environment"], ["weights"]),
        "evaluate": (["weights", *test], ["scores"]),
    }
    used = [(a, e) for a, (inputs, _) in activities.items() for e in [*inputs, "settings"]]
    made = [(e, a) for a, (_, outputs) in activities.items() for e in outputs]
    derived = [(e, i) for inputs, outputs in activities.values() for e in outputs for i in inputs]
    return {
        "prefix": PREFIX,
        "entity": {_name(name): attributes for name, attributes in entities.items()},
        "activity": {
            _name(name): {"prov:label": f"the stage {name} of the pipeline"} for name in activities
        },
        "agent": {
            _name("program"): {
                "prov:type": {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"},
                "prov:label": f"tinyllm {version('tinyllm')}",
            }
        },
        "used": _relations("u", "prov:activity", "prov:entity", used),
        "wasGeneratedBy": _relations("g", "prov:entity", "prov:activity", made),
        "wasDerivedFrom": _relations("d", "prov:generatedEntity", "prov:usedEntity", derived),
        "wasAssociatedWith": {
            f"_:a{number}": {
                "prov:activity": _name(name),
                "prov:agent": _name("program"),
                "prov:plan": _name("code"),
            }
            for number, name in enumerate(activities)
        },
    }


def _split(name: str) -> str:
    return f"{name}-split"


def _name(name: str) -> str:
    return f"tinyllm:{name}"


def _relations(prefix: str, first: str, second: str, pairs: list[tuple[str, str]]) -> Records:
    return {
        f"_:{prefix}{number}": {first: _name(a), second: _name(b)}
        for number, (a, b) in enumerate(pairs)
    }


def _attributes(facts: Facts, label: str) -> dict[str, Any]:
    """Facts as attributes of an entity; PROV-JSON knows no null and no nested values."""
    attributes: dict[str, Any] = {"prov:label": label}
    for name, value in facts.items():
        key = f"tinyllm:{name.replace(' ', '_')}"
        if value is None or value in ([], {}):
            continue
        if isinstance(value, dict):
            attributes[key] = [f"{inner} {held}".strip() for inner, held in value.items()]
        else:
            attributes[key] = value
    return attributes
