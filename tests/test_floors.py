"""The floors of the packages, from the top down, and what may import what.

A module imports what is on its own floor or below. References and processes that are started by
a module's name count as imports (`test_pipeline_file.imports`).
"""

import ast
from pathlib import Path

from tests.test_pipeline_file import (
    SOURCES,
    imports,
    module_of,
    modules_started,
    place,
    tree_of,
)

# From the top down. What knows DVC is in the stages, the command and `experiments`.
FLOORS = [
    "stages", "tinyllm.__main__", "tinyllm.cli", "tinyllm.experiments", "tinyllm.export",
    "tinyllm.training", "tinyllm.serving", "tinyllm.report_page",
    "tinyllm.evaluation", "tinyllm.tracking", "tinyllm.generation", "tinyllm.model_card",
    "tinyllm.models",
    "tinyllm.data", "tinyllm.compute", "tinyllm.compiler", "tinyllm.pictures", "tinyllm.settings",
    "tinyllm.common",
]  # fmt: skip
UPWARDS = {
    ("tinyllm.settings.cross_checks", "tinyllm.models.registry"): (
        "only the names of the architectures, which are in one place; it imports no network"
    ),
    ("tinyllm.settings.cross_checks", "tinyllm.models.folder"): (
        "the shape of the model that train.init_from names, only if it names one"
    ),
    ("tinyllm.settings.cross_checks", "tinyllm.data.tokenizer"): "the same model's tokenizer",
    ("tinyllm.tracking.mlflow.registry", "tinyllm.evaluation.paired"): (
        "only a formula, which imports nothing of the project; it decides which model is champion"
    ),
    ("tinyllm.common.unchanged", "tinyllm.settings.strict_yaml"): (
        "reads params.yaml again as it was read at first; decides no result"
    ),
}
UNNAMED = {
    "tinyllm.tracking.mlflow.browser": "this module, which waits for the server",
    "tinyllm.training.distributed.launch": "the stage that is running, once more for each process",
}


def floor_of(module: str) -> int:
    """The number of a module's floor, from the top."""
    (floor,) = (
        number
        for number, name in enumerate(FLOORS)
        if module == name or module.startswith(f"{name}.")
    )
    return floor


def imported(path: Path) -> set[str]:
    """The project's modules that a file imports itself, without the packages that they are in."""
    return {module_of(file) for file in imports(path) if file.name != "__init__.py"}


def test_every_module_is_on_one_floor() -> None:
    for path in SOURCES:
        if module_of(path) != "tinyllm":
            floor_of(module_of(path))


def test_nothing_imports_upwards() -> None:
    found = {
        (module_of(path), module)
        for path in SOURCES
        if module_of(path) != "tinyllm"
        for module in imported(path)
        if floor_of(module) < floor_of(module_of(path))
    }
    assert found == UPWARDS.keys()


def test_a_process_that_is_started_by_its_modules_name_counts_as_an_import() -> None:
    (follower,) = (path for path in SOURCES if module_of(path) == "tinyllm.tracking.follower")
    assert "tinyllm.tracking.sender" in imported(follower)


def test_the_module_of_a_process_is_named_where_it_is_started() -> None:
    for path in SOURCES:
        for module in modules_started(path):
            named = isinstance(module, ast.Constant)
            assert named or module_of(path) in UNNAMED, place(path, module)


# Below experiments/, what has a word of DVC in a text that is no docstring, and why.
NAMES_DVC = {
    "tinyllm.data.readers.evidence": "recognises DVC's pointer files in any corpus",
}


def test_what_is_below_experiments_knows_no_dvc() -> None:
    """No command, no file and no variable of DVC, in a message or as a value."""
    below = {
        module_of(path)
        for path in SOURCES
        if module_of(path) != "tinyllm"
        if floor_of(module_of(path)) > FLOORS.index("tinyllm.experiments")
        if any("dvc" in text.lower() for text in texts(path))
    }
    assert below == NAMES_DVC.keys()


def texts(path: Path) -> list[str]:
    """The texts in a file that are no docstrings."""
    nodes = list(ast.walk(tree_of(path)))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    said = {ast.get_docstring(n, clean=False) for n in nodes if isinstance(n, documented)}
    found = [str(node.value) for node in nodes if isinstance(node, ast.Constant)]
    return [text for text in found if text not in said]
