"""dvc.yaml declares everything that the stages depend on, and is the only source of paths.

The tests parse the source code with `ast`, including imports inside functions.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tinyllm.common.source_files import DATA, NO_RESULT, files_of
from tinyllm.settings.load import Params, load_params

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict[str, Any]] = PIPELINE["stages"]
PACKAGES = ("stages", "tinyllm")
SOURCES = sorted(p.relative_to(ROOT) for name in PACKAGES for p in (ROOT / name).rglob("*.py"))
SECTIONS = set(Params.model_fields)
NOT_A_DEPENDENCY = "runtime"  # the section that changes no result
# DVC's name of the settings file, which provenance.py passes to Git.
SETTINGS = "params.yaml"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_bytes())


def file_of(module: str) -> Path | None:
    """The file of a project module; None for anything else."""
    path = Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if path.parts[0] in PACKAGES and (ROOT / candidate).exists():
            return candidate
    return None


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def with_packages(module: str) -> Iterator[Path]:
    """The files that importing a module runs: the module's, and its packages' before it."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        path = file_of(".".join(parts[:length]))
        if path is not None:
            yield path


def imported_names(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere; for `from a import b` both a and a.b if it exists.

    A reference like "a.b:c" counts as an import of a.b.
    """
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module_of(path).split(".")
            if path.name != "__init__.py":
                package.pop()
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"tinyllm[\w.]*:\w+", str(node.value)):
            yield str(node.value).partition(":")[0]  # a reference, as in a registry


def started_names(path: Path) -> Iterator[str]:
    """The modules that a file starts as processes, like `python -m a.b`."""
    for started in modules_started(path):
        if isinstance(started, ast.Constant):
            yield str(started.value)


def modules_started(path: Path) -> Iterator[ast.expr]:
    """What follows `"-m"` in a file's lists of arguments."""
    for node in ast.walk(tree_of(path)):
        words = getattr(node, "elts", None) or getattr(node, "args", None)
        for option, module in pairwise(words if isinstance(words, list) else []):
            if isinstance(option, ast.Constant) and option.value == "-m":
                yield module


def imports(path: Path) -> set[Path]:
    """The project files that a file imports itself, or starts as processes."""
    names = (*imported_names(path), *started_names(path))
    return {found for name in names for found in with_packages(name)} - {path}


def decides_nothing(path: Path) -> bool:
    """Whether law 3 exempts a file: no result depends on it."""
    module = module_of(path)
    return any(module == name or module.startswith(f"{name}.") for name in NO_RESULT)


def closure(path: Path, follow_all: bool = False) -> set[Path]:
    """A file, and the project files that it imports, directly or not.

    Args:
        follow_all: whether to include files that no result depends on.
    """
    found, waiting = set[Path](), set(with_packages(module_of(path)))
    while waiting:
        found |= waiting
        waiting = {new for path in waiting for new in imports(path)} - found
        if not follow_all:
            waiting = {path for path in waiting if not decides_nothing(path)}
    return found | {data for path in found for data in data_beside(path)}


def data_beside(path: Path) -> Iterator[Path]:
    """The templates, tables and the like in the package that a file begins."""
    if path.name == "__init__.py":
        files = (ROOT / path.parent).iterdir()
        yield from (file.relative_to(ROOT) for file in files if file.suffix in DATA)


def last_name(node: ast.expr) -> str | None:
    """The name `a` in `a`, `b.a`, `a(...)` and `b.a(...)`."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return getattr(node, "attr", getattr(node, "id", None))


def place(path: Path, node: ast.AST) -> str:
    return f"{path}:{getattr(node, 'lineno', '?')}: {ast.unparse(node)}"


def names(entries: list[str | dict[str, Any]]) -> list[str]:
    """The names of entries `- name` or `- name: {options}` in dvc.yaml."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def deps(stage: str) -> list[str]:
    return names(STAGES[stage]["deps"])


def code_deps(stage: str) -> list[str]:
    """The dependencies on code: modules and folders of modules."""
    return [dep for dep in deps(stage) if PurePosixPath(dep).parts[0] in PACKAGES]


def files_in(dep: str) -> list[str]:
    """The files that DVC hashes for a dependency on code, without those in `.dvcignore`."""
    path = ROOT / dep
    found = path.rglob("*") if path.is_dir() else [path]
    return [
        file.relative_to(ROOT).as_posix()
        for file in found
        if file.is_file()
        and "__pycache__" not in file.parts
        and not decides_nothing(file.relative_to(ROOT))
    ]


def outs(stage: str) -> list[str]:
    return names(STAGES[stage]["outs"])


def script(stage: str) -> Path:
    return Path("stages", f"{stage}.py")


def arguments(stage: str) -> dict[str, str]:
    """The options of a stage's command, with their paths."""
    words = STAGES[stage]["cmd"].split()
    assert words[:3] == ["python", "-m", f"stages.{stage}"]
    return dict(zip(words[3::2], words[4::2], strict=True))


# Law 2: dependencies are complete


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_exactly_the_imports(stage: str) -> None:
    listed = [file for dep in code_deps(stage) for file in files_in(dep)]
    wanted = sorted(path.as_posix() for path in closure(script(stage)))
    assert sorted(listed) == wanted, (
        f"in dvc.yaml {stage} lacks {sorted(set(wanted) - set(listed))} "
        f"and lists in vain {sorted(set(listed) - set(wanted))}"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_fingerprint_covers_the_same_code(stage: str) -> None:
    assert set(files_of(f"stages.{stage}")) == closure(script(stage))


def test_modules_without_effect_on_results_exist_and_have_a_reason() -> None:
    for module, reason in NO_RESULT.items():
        assert file_of(module) in SOURCES and reason


def test_dvc_hashes_no_module_without_effect_on_results() -> None:
    """A folder of code is a dependency except for these modules."""
    from dvc.repo import Repo

    with Repo(ROOT) as repo:
        ignored = {path for path in SOURCES if repo.dvcignore.is_ignored_file(str(ROOT / path))}
    assert ignored == {path for path in SOURCES if decides_nothing(path)}


def test_every_stage_is_in_the_pipeline() -> None:
    scripts = {path.stem for path in SOURCES if path.parts[0] == "stages"} - {"__init__"}
    assert set(STAGES) == scripts


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_depends_on_the_libraries(stage: str) -> None:
    assert "requirements.lock" in deps(stage)


def test_every_import_is_in_the_graph() -> None:
    """An import by a name computed at run time would be missing above."""
    hidden = {"import_module", "__import__", "run_module", "run_path"}
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            called = last_name(node) if isinstance(node, ast.Call) else None
            assert called not in hidden, place(path, node)
        assert all("*" not in name for name in imported_names(path)), path


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_another(stage: str) -> None:
    everything = closure(script(stage), follow_all=True)
    others = {path for path in everything if path.parts[0] == "stages"}
    assert others == {Path("stages/__init__.py"), script(stage)}


def test_the_library_imports_no_stage() -> None:
    for path in SOURCES:
        if path.parts[0] == "tinyllm":
            assert not [name for name in imported_names(path) if name.startswith("stages")], path


def test_there_is_no_import_cycle() -> None:
    named = {path: set(filter(None, map(file_of, imported_names(path)))) for path in SOURCES}
    for path in SOURCES:
        reached, waiting = set[Path](), named[path]
        while waiting:
            reached |= waiting
            waiting = set[Path]().union(*(named[found] for found in waiting)) - reached
        assert path not in reached, path


# Law 2, 3: settings


def settings_read(path: Path) -> set[str]:
    """The settings that a file reads from a value called params: whole sections, or keys."""
    tree = tree_of(path)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    read = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in SECTIONS and is_params(node.value):
            key = parents[node]
            read.add(f"{node.attr}.{key.attr}" if isinstance(key, ast.Attribute) else node.attr)
    return read


def section(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def is_params(node: ast.expr) -> bool:
    """`params`, `self.params` or `load_params(...)`."""
    return last_name(node) in {"params", "load_params"}


@pytest.mark.parametrize("stage", STAGES)
def test_the_settings_read_are_those_declared(stage: str) -> None:
    """A stage declares a whole section, or exactly those of its keys that are read."""
    declared = set(STAGES[stage].get("params", []))
    modules = (path for path in closure(script(stage)) if path.suffix == ".py")
    read = set[str]().union(*map(settings_read, modules))
    read = {name for name in read if section(name) != NOT_A_DEPENDENCY}
    assert declared == {section(name) if section(name) in declared else name for name in read}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_compares_exactly_its_dependencies(stage: str) -> None:
    """Each stage hashes its inputs and settings before its work, and compares them at the end."""
    (made,) = [
        node
        for node in ast.walk(tree_of(script(stage)))
        if isinstance(node, ast.Call) and last_name(node) == "MadeFrom"
    ]
    given = {keyword.arg: keyword.value for keyword in made.keywords}
    given |= dict(zip((None, "inputs", "params", "sections"), made.args, strict=False))
    assert ast.literal_eval(made.args[0]) == stage
    keys = given.get("sections")
    if isinstance(keys, ast.Name):
        keys = assigned(stage, keys.id)
    sections = ast.literal_eval(keys) if keys is not None else []
    assert sections == STAGES[stage].get("params", [])
    inputs = given.get("inputs")
    if isinstance(inputs, ast.Name):
        inputs = assigned(stage, inputs.id)
    read = [last_name(element) for element in inputs.elts] if isinstance(inputs, ast.List) else []
    named = {path: name for name, path in arguments(stage).items()}
    assert [f"--{name}" for name in read] == [named[dep] for dep in deps(stage) if dep in named]


def test_settings_of_training_only_do_not_rerun_the_evaluation() -> None:
    declared = {name for name in STAGES["evaluate"]["params"] if section(name) == "hardware"}
    assert declared == {"hardware.device", "hardware.threads"}  # not hardware.compile


def assigned(stage: str, name: str) -> ast.expr:
    """The expression that a stage assigns to a name."""
    (value,) = [
        node.value
        for node in ast.walk(tree_of(script(stage)))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]
    return value


def test_settings_without_effect_on_results_are_no_dependency() -> None:
    assert NOT_A_DEPENDENCY in SECTIONS
    for stage, description in STAGES.items():
        for key in description.get("params", []):
            assert key.split(".")[0] != NOT_A_DEPENDENCY, stage


def test_settings_are_called_params_everywhere() -> None:
    """So that `settings_read` finds every setting."""
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            for name, value in settings_named(node):
                assert name == "params" and value != "params", place(path, node)


def settings_named(node: ast.AST) -> Iterator[tuple[str | None, str | None]]:
    """The names that code assigns the whole settings to, and from."""
    match node:
        case ast.arg(arg=name, annotation=ast.expr() as annotation):
            if re.search(r"\bParams\b", ast.unparse(annotation)):
                yield name, None
        case ast.Assign(targets=targets, value=value) if is_params(value):
            yield from ((last_name(target), last_name(value)) for target in targets)
        case ast.Call(func=ast.Name(id="getattr" | "vars" as called), args=[value, *_]):
            if is_params(value):
                yield called, None


# Law 1: one source for paths


def paths() -> list[str]:
    """Every path in the commands of dvc.yaml."""
    given = {path for stage in STAGES for path in arguments(stage).values()}
    return sorted(given - {SETTINGS})


def test_no_path_is_repeated_in_code() -> None:
    repeated = re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, paths()))})(?![\w-])")
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not repeated.search(node.value), place(path, node)


@pytest.mark.parametrize("stage", STAGES)
def test_the_paths_in_a_command_are_declared(stage: str) -> None:
    """DVC would ignore a path in a command that is neither a dependency nor an output."""
    code = {*code_deps(stage), "requirements.lock"}
    data = {dep for dep in deps(stage) if dep not in code and "${" not in dep}
    declared = data | set(outs(stage)) | ({SETTINGS} if STAGES[stage].get("params") else set())
    assert sorted(arguments(stage).values()) == sorted(declared)


@pytest.mark.parametrize("stage", STAGES)
def test_a_failing_stage_keeps_its_outputs(stage: str) -> None:
    """DVC deletes an output before its stage starts, unless it has `persist: true`."""
    for entry in STAGES[stage]["outs"]:
        assert isinstance(entry, dict), entry
        ((_, options),) = entry.items()
        assert options.get("persist") is True, entry


@pytest.mark.parametrize("kind", ["metrics", "plots"])
def test_every_metric_and_plot_is_an_output(kind: str) -> None:
    """Each metric and plot is in an output of a stage."""
    made = [PurePosixPath(out) for stage in STAGES for out in outs(stage)]
    for entry in PIPELINE[kind]:
        shown = [entry] if isinstance(entry, str) else list(next(iter(entry.values()))["y"])
        for file in map(PurePosixPath, shown):
            assert any(out in (file, *file.parents) for out in made), file


# Law 6: the test data


def test_only_evaluate_reads_the_test_split() -> None:
    test = PurePosixPath(arguments("split")["--test"])
    for stage in STAGES:
        near = [
            dep
            for dep in map(PurePosixPath, deps(stage))
            if test in (dep, *dep.parents) or dep in test.parents
        ]
        assert near == ([test] if stage == "evaluate" else []), stage


def test_an_experiment_keeps_the_comments_of_params_yaml(tmp_path: Path) -> None:
    """`dvc exp run -S` rewrites the file: null becomes empty; otherwise only changes differ."""
    from dvc.utils.hydra import apply_overrides

    before = Path(SETTINGS).read_text(encoding="utf-8")
    steps = load_params(Path(SETTINGS)).train.max_steps
    written = tmp_path / SETTINGS
    written.write_text(before, encoding="utf-8")
    apply_overrides(written, ["train.max_steps=800"])
    after = written.read_text(encoding="utf-8")
    assert after != before and load_params(written).train.max_steps == 800

    def bare(text: str) -> str:
        return re.sub(r" +", " ", re.sub(rf": (null|{steps}|800)\b", ":", text))

    assert bare(after) == bare(before)
