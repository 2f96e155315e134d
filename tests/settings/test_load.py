"""params.yaml: correct settings are typed and frozen; all errors are reported at once."""

import ast
import copy
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tests.helpers import ROOT
from tinyllm.settings import strict_yaml
from tinyllm.settings.load import Params, load_params
from tinyllm.settings.section import Section

Raw = dict[str, Any]
FILE = ROOT / "params.yaml"


def scalar(value: Any) -> str:
    """Format a value as JSON, which YAML reads the same except for infinite numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' * (value < 0)}.inf"
    return json.dumps(value, ensure_ascii=False)


def to_yaml(raw: Raw) -> str:
    lines = []
    for name, value in raw.items():
        if isinstance(value, dict) and value:
            lines += [f"{name}:", *(f"  {key}: {scalar(v)}" for key, v in value.items())]
        else:
            lines.append(f"{name}: {scalar(value)}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def raw() -> Raw:
    """Return params.yaml as plain data, with the settings that the tests rely on."""
    raw = strict_yaml.load(FILE.read_text(encoding="utf-8"))
    raw["download"] |= {"source": "docstrings", "url": None, "path": "corpus", "sha256": None}
    raw["split"] = {"validation_fraction": 0.1, "test_fraction": 0.1, "near_duplicates": 1000}
    raw["train"] |= {
        "n_head": 4, "d_model": 192, "context_length": 128, "batch_size": 16,
        "micro_batch_size": None, "max_steps": 1000, "learning_rate": 0.003,
        "n_kv_head": None, "optimizer": "muon",
        "min_learning_rate": 0.0, "warmup_steps": 50, "decay_steps": None, "patience": None,
    }  # fmt: skip
    raw["evaluate"] |= {"stride": 64}
    return raw


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Raw | str | bytes], Params]:
    """Return a function that writes settings to a params.yaml and loads it."""

    def load(content: Raw | str | bytes) -> Params:
        if isinstance(content, dict):
            content = to_yaml(content)
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "params.yaml").write_bytes(data)
        return load_params(tmp_path / "params.yaml")

    return load


Load = Callable[[Raw | str | bytes], Params]


def refusal(load: Load, content: Raw | str | bytes) -> list[str]:
    """Return the lines of the expected error, without the headline."""
    with pytest.raises(ValueError) as caught:
        load(content)
    headline, *lines = str(caught.value).splitlines()
    if lines:
        assert headline == f"params.yaml has {len(lines)} wrong setting(s):"
    return lines or [headline]


def leaves(raw: Raw) -> Iterator[tuple[str, str]]:
    for name, section in raw.items():
        if isinstance(section, dict):
            yield from ((name, key) for key in section)


# ----- the file that ships


def test_the_file_loads_as_typed_values(raw: Raw, load: Load) -> None:
    params = load(raw)
    assert type(params.seed) is int
    assert params.train.learning_rate == 0.003 and type(params.train.learning_rate) is float
    assert params.download.url is None
    assert params.train.betas == raw["train"]["betas"]
    assert params.model_dump() == raw


def test_values_can_not_be_changed_afterwards(raw: Raw, load: Load) -> None:
    params = load(raw)
    with pytest.raises(ValidationError):
        params.train.max_steps = 3
    with pytest.raises(ValidationError):
        params.seed = 3


def sections(model: type[BaseModel] = Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting as (dotted key, pydantic's field)."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from sections(kind, f"{name}.")
        else:
            yield prefix + name, field


def test_every_setting_is_in_the_file() -> None:
    in_file = strict_yaml.load(FILE.read_text(encoding="utf-8"))
    keys = {"seed"} | {f"{section}.{key}" for section, key in leaves(in_file)}
    assert {key for key, _ in sections()} == keys
    assert [key for key, field in sections() if not field.is_required()] == []  # no hidden default


def test_every_setting_in_the_file_has_a_comment() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if re.match(r" *[a-z_0-9]+: *[^ #]|  [a-z_0-9]+:", line)]
    assert len(settings) == len(list(sections()))
    assert [line for line in settings if not re.search(r"\s# *\w", line)] == []


def test_every_setting_is_used() -> None:
    """No setting is accepted and then ignored."""
    read: set[str] = set()
    for path in [*(ROOT / "tinyllm").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        if path.parent != ROOT / "tinyllm/settings":
            nodes = ast.walk(ast.parse(path.read_bytes()))
            read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    unread = [key for key, _ in sections() if key.split(".")[-1] not in read]
    assert unread == []


def test_derived_settings_are_resolved(raw: Raw, load: Load) -> None:
    raw["train"] |= {"micro_batch_size": None, "decay_steps": None}
    resolved = load(raw).train.resolve()
    assert (resolved.micro_batch_size, resolved.decay_steps) == (16, 1000)
    raw["train"] |= {"micro_batch_size": 8, "decay_steps": 900}
    resolved = load(raw).train.resolve()
    assert (resolved.micro_batch_size, resolved.decay_steps) == (8, 900)


# ----- errors


def test_all_errors_are_reported_at_once_on_one_line_each(raw: Raw, load: Load) -> None:
    raw["seed"] = "x\ny"
    raw["download"]["sha256"] = "ABC"
    raw["split"]["test_fraction"] = 1.5
    raw["train"] |= {"dropout": -0.1, "optimizer": "lion", "warmup_steps": 2000}
    raw["train"]["dropuot"] = 0.1
    del raw["evaluate"]["prompts"]
    assert sorted(refusal(load, raw)) == [
        "download.sha256.0 = 'ABC': must be 64 lower-case hexadecimal digits",
        "evaluate.prompts: is missing",
        r"seed = 'x\ny': must be a whole number",
        "split.test_fraction = 1.5: must be less than 1",
        "train.dropout = -0.1: must be greater than or equal to 0",
        "train.dropuot: is not a setting",
        "train.optimizer = 'lion': must be 'adamw', 'adam', 'sgd' or 'muon'",
        "train.warmup_steps = 2000: must be below train.max_steps = 1000",
    ]


@pytest.mark.parametrize(
    ("section", "changes", "line"),
    [
        ("download", {"source": "url"}, "download.url = null: must be given when"),
        ("download", {"packages": ["pandas"]}, "download.packages.0 = 'pandas': must be a package"),
        ("download", {"packages": []}, "download.packages = []: "),
        ("download", {"url": "x.txt"}, "download.url.0 = 'x.txt': must be an address, like http"),
        ("download", {"url": "http://[::1/a"}, "download.url.0 = 'http://[::1/a': must be an a"),
        ("download", {"url": ["http://a", ""]}, "download.url.1 = '': must be an address"),
        (
            "download",
            {"source": "url", "url": ["http://a"] * 2, "sha256": "0" * 64},
            "download.sha256 = '0000",
        ),
        ("download", {"source": "path", "sha256": ["0" * 64] * 2}, "download.sha256 = ['00"),
        ("download", {"document_start": "("}, "download.document_start = '(': must be a regular"),
        (
            "download",
            {"document_start": "#", "separator": "-"},
            "download.document_start = '#': mu",
        ),
        (
            "download",
            {"max_bytes": 0},
            "download.max_bytes = 0: must be greater than or equal to 1",
        ),
        ("tokenize", {"vocab_size": 256}, "tokenize.vocab_size = 256: must be greater than"),
        ("tokenize", {"sample_bytes": 0}, "tokenize.sample_bytes = 0: must be greater than"),
        ("tokenize", {"encoding": "gpt5"}, "tokenize.encoding = 'gpt5': must be one of bpe, gpt2,"),
        ("split", {"near_duplicates": -1}, "split.near_duplicates = -1: must be greater than"),
        ("split", {"validation_fraction": 0.5, "test_fraction": 0.5}, "split.test_fraction = 0.5:"),
        ("train", {"n_head": 5}, "train.n_head = 5: must divide train.d_model = 192 into heads"),
        ("train", {"n_head": 64}, "train.n_head = 64: must divide train.d_model = 192 into heads"),
        ("train", {"n_kv_head": 3}, "train.n_kv_head = 3: must divide train.n_head = 4"),
        ("train", {"n_kv_head": 8}, "train.n_kv_head = 8: must divide train.n_head = 4"),
        (
            "train",
            {"architecture": "gpt5"},
            "train.architecture = 'gpt5': must be one of qwen3, llama, nanochat",
        ),
        ("train", {"tie_embeddings": 1}, "train.tie_embeddings = 1: must be true or false"),
        ("train", {"micro_batch_size": 5}, "train.micro_batch_size = 5: must divide"),
        ("train", {"micro_batch_size": 32}, "train.micro_batch_size = 32: must divide"),
        ("train", {"warmup_steps": 1000}, "train.warmup_steps = 1000: must be below"),
        ("train", {"decay_steps": 50}, "train.decay_steps = 50: must be above train.warmup_steps"),
        ("train", {"decay_steps": 1001}, "train.decay_steps = 1001: must be above"),
        ("train", {"min_learning_rate": 0.1}, "train.min_learning_rate = 0.1: must be at most"),
        ("train", {"betas": [0.9]}, "train.betas = [0.9]: "),
        ("train", {"betas": [0.9, 1.0]}, "train.betas.1 = 1.0: must be less than 1"),
        ("train", {"grad_clip": 0}, "train.grad_clip = 0: must be greater than 0"),
        ("evaluate", {"stride": 129}, "evaluate.stride = 129: must be at most"),
        ("train", {"n_layer": "4"}, "train.n_layer = '4': must be a whole number, without quotes"),
        ("train", {"dropout": "0"}, "train.dropout = '0': must be a number, without quotes"),
        (
            "hardware",
            {"threads": 100_000},
            "hardware.threads = 100000: must be less than or equal to 1024",
        ),
        (
            "runtime",
            {"num_workers": 5000},
            "runtime.num_workers = 5000: must be less than or equal to 1024",
        ),
        ("evaluate", {"prompts": ["a", ""]}, "evaluate.prompts.1 = '': must not be empty"),
        ("hardware", {"processes": 3}, "hardware.processes = 3: must divide train.batch_size"),
        ("hardware", {"nodes": 5}, "hardware.processes = 1: must divide train.batch_size"),
        ("hardware", {"sharding": "full"}, "hardware.sharding = 'full': must be none for a single"),
        (
            "hardware",
            {"sharding": "full", "processes": 2},
            "hardware.sharding = 'full': must be none with train.optimizer = 'muon'",
        ),
        ("hardware", {"compile": "yes"}, "hardware.compile = 'yes': must be 'auto', true or false"),
        ("runtime", {"pin_memory": 2}, "runtime.pin_memory = 2: must be true or false"),
        ("train", {"batch_size": True}, "train.batch_size = true: must be a whole number"),
        ("hardware", {"device": "gpu"}, "hardware.device = 'gpu': must be 'auto', 'cpu', 'cuda'"),
    ],
)
def test_an_error_says_what_a_setting_may_be(
    raw: Raw, load: Load, section: str, changes: Raw, line: str
) -> None:
    raw[section] |= changes
    [found] = refusal(load, raw)
    assert found.startswith(line)


def test_settings_at_their_bounds_are_accepted(raw: Raw, load: Load) -> None:
    raw["train"] |= {
        "warmup_steps": 999, "decay_steps": 1000, "min_learning_rate": 0.003,
        "micro_batch_size": 16, "n_head": 96,
    }  # fmt: skip
    raw["evaluate"]["stride"] = 128
    load(raw)
    raw["train"] |= {"warmup_steps": 0, "micro_batch_size": 1, "dropout": 0, "n_head": 1}
    load(raw)


def test_a_missing_section_is_named_and_the_rest_is_checked(raw: Raw, load: Load) -> None:
    del raw["train"]
    raw["split"]["validation_fraction"] = 0.95
    assert sorted(refusal(load, raw)) == [
        "split.test_fraction = 0.1: must leave a part for training beside "
        "split.validation_fraction = 0.95",
        "train: is missing",
    ]


@pytest.mark.parametrize("value", [None, 3, "text", [1]])
def test_a_section_that_is_not_a_section(raw: Raw, load: Load, value: Any) -> None:
    raw["train"] = value
    [line] = refusal(load, raw)
    assert re.fullmatch(r"train = .+: must be a section with settings", line)


@pytest.mark.parametrize("name", ["colour", "int", "str", "constrained-int", "list[int]", "f(x)"])
def test_each_unknown_setting_is_named(raw: Raw, load: Load, name: str) -> None:
    raw["train"][name] = 1
    raw[name] = 2
    assert sorted(refusal(load, raw)) == sorted(
        [f"{name}: is not a setting", f"train.{name}: is not a setting"]
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("true", "true"),
        ('"16"', "'16'"),
        ("16.0", "16.0"),
        ("1e1", "10.0"),
        ("[16]", "[16]"),
        ("null", "null"),
        (".nan", "nan"),
        (".NaN", "nan"),
        (".inf", "inf"),
        ("-.Inf", "-inf"),
        ("sixteen", "'sixteen'"),
    ],
)
def test_values_that_are_not_integers(raw: Raw, load: Load, value: str, shown: str) -> None:
    text = to_yaml(raw).replace("\n  batch_size: 16\n", f"\n  batch_size: {value}\n")
    [line] = refusal(load, text)
    quoted = ", without quotes" if shown == "'16'" else ""
    assert line == f"train.batch_size = {shown}: must be a whole number{quoted}"


@pytest.mark.parametrize("value", ["true", '"0.1"', ".nan", ".NaN", ".inf", ".INF", "1e999", "1_0"])
def test_values_that_are_not_numbers(raw: Raw, load: Load, value: str) -> None:
    text = to_yaml(raw).replace("learning_rate: 0.003", f"learning_rate: {value}")
    [line] = refusal(load, text)
    quoted = ", without quotes" if value == '"0.1"' else ""
    assert re.fullmatch(rf"train.learning_rate = .+: must be a (finite )?number{quoted}", line)


@pytest.mark.parametrize(
    ("written", "value"), [("1e-05", 1e-5), ("1E-5", 1e-5), ("1.e-5", 1e-5), (".5", 0.5), ("1", 1)]
)
def test_numbers_as_dvc_and_users_write_them(
    raw: Raw, load: Load, written: str, value: float
) -> None:
    text = to_yaml(raw).replace("learning_rate: 0.003", f"learning_rate: {written}")
    assert load(text).train.learning_rate == value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 1\nseed: 2\n", "params.yaml: line 2: 'seed' is defined twice"),
        ("train:\n  n_layer: 1\n  n_layer: 1\n", "params.yaml: line 3: 'n_layer' is defined twice"),
        ("seed: &a 1\n", "params.yaml: line 1: a YAML anchor is not allowed"),
        ("seed: *a\n", "params.yaml: line 1: a YAML alias is not allowed"),
        ("seed: !!int 1\n", "params.yaml: line 1: a YAML tag is not allowed"),
        ("seed: !!python/name:os.getcwd\n", "params.yaml: line 1: a YAML tag is not allowed"),
        ("? [a]\n: 1\n", "params.yaml: line 1: a key must be a plain name"),
        ("seed: " + "9" * 5000, "params.yaml: line 1: the number is too long"),
        ("", "params.yaml: must contain one section per stage, but contains null"),
        ("- seed\n", "params.yaml: must contain one section per stage, but contains ['seed']"),
    ],
)
def test_yaml_features_that_are_not_allowed(load: Load, text: str, line: str) -> None:
    assert refusal(load, text) == [line]


@pytest.mark.parametrize(
    "content",
    [
        b"seed: \xff\n",
        b"\xff\xfes\0e\0e\0d\0",
        b"seed: \0",
        b"seed: [1\n",
        b"\tseed: 1\n",
        b"a: 1\n---\na: 2\n",
        b'seed: "\\UFFFFFFFF"\n',
        b'"\\ud800": 1\n',
        b"seed: " + b"[" * 500 + b"]" * 500,
        b"seed: " + b"{a: " * 500,
    ],
)
def test_files_that_are_not_settings(load: Load, content: bytes) -> None:
    assert refusal(load, content)[0]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"params\.yaml: .*No such file"):
        load_params(tmp_path / "params.yaml")


# ----- corrupt files

# Wrong for settings of every type.
ALWAYS_WRONG = [{"a": 1}, [[1]], math.nan, math.inf, -math.inf, -1, -0.5, "", 10**30 + 0.5]


def break_surely(raw: Raw, chance: random.Random) -> str:
    """Return settings with one value that is wrong for every type."""
    raw = copy.deepcopy(raw)
    section, key = chance.choice(list(leaves(raw)))
    match chance.randrange(7):
        case 0:
            del raw[section][key]
        case 1:
            raw[section][key + "_"] = raw[section].pop(key)
        case 2:
            raw[section][key] = chance.choice(ALWAYS_WRONG[:-1])
        case 3:
            raw[chance.choice(["seed", section])] = chance.choice([*ALWAYS_WRONG[1:], {}, None])
        case 4:
            flaw = chance.choice(["!!str ", "&a ", "!", "*a "])
            return to_yaml(raw).replace(f"  {key}: ", f"  {key}: {flaw}", 1)
        case 5:
            return to_yaml(raw) + chance.choice([f"{section}:\n", "seed: 1\n", "---\nseed: 1\n"])
        case 6:
            raw["train"] |= chance.choice(
                [{"batch_size": 7, "micro_batch_size": 2}, {"warmup_steps": 10**6}, {"n_head": 7}]
            )
    return to_yaml(raw)


def break_anyhow(text: str, chance: random.Random) -> bytes:
    """Return a corrupted file, which may still be valid."""
    data = bytearray(text.encode())
    position = chance.randrange(len(data))
    match chance.randrange(8):
        case 0:
            return bytes(data[:position])
        case 1:
            data[position] = chance.randrange(256)
        case 2:
            data[position:position] = chance.randbytes(chance.randint(1, 12))
        case 3:
            del data[position : position + chance.randint(1, 40)]
        case 4:
            lines = text.splitlines(keepends=True)
            chance.shuffle(lines)
            return "".join(lines).encode()
        case 5:
            opening, closing = chance.choice([(b"[", b"]"), (b"{a: ", b"}"), (b"- ", b"")])
            depth = chance.randint(1, 400)
            data[position:position] = opening * depth + closing * depth
        case 6:
            token = chance.choice([*":#-?&*!|>%@`'\"{}[],\t\r\n~", "\\u", "<<: ", "...\n"])
            data[position:position] = token.encode() * chance.randint(1, 3)
        case 7:
            return chance.randbytes(chance.randint(0, 200))
    return bytes(data)


def test_files_with_a_wrong_value_are_refused(raw: Raw, load: Load) -> None:
    chance = random.Random(1)
    for _ in range(250):
        content = break_surely(raw, chance)
        try:
            load(content)
        except ValueError as error:
            assert str(error).strip(), content
        else:
            pytest.fail(f"accepted:\n{content}")


def test_corrupt_files_are_refused_or_read_but_never_crash(raw: Raw, load: Load) -> None:
    chance = random.Random(2)
    text = to_yaml(raw)
    for _ in range(350):
        content = break_anyhow(text, chance)
        try:
            params = load(content)
        except ValueError as error:
            assert str(error).strip(), content
        else:
            assert isinstance(params, Params)


def test_each_setting_refuses_values_of_other_types(raw: Raw, load: Load) -> None:
    for section, key in leaves(raw):
        for value in ALWAYS_WRONG:
            if value == 10**30 + 0.5:
                continue  # valid for a float without an upper bound
            changed = copy.deepcopy(raw)
            changed[section][key] = value
            lines = refusal(load, changed)
            assert any(re.match(rf"{section}\.{key}(\.\d+)* = ", line) for line in lines), lines
