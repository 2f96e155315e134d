"""`tinyllm preset`: known recipes by name, each a small file of settings in presets/."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from ruamel.yaml import YAML

from tinyllm.common.files import project_root, publish_file
from tinyllm.data.sources.catalogue import check_source
from tinyllm.experiments.provenance import PARAMS
from tinyllm.settings import strict_yaml
from tinyllm.settings.cross_checks import show
from tinyllm.settings.load import flatten, load_params
from tinyllm.settings.section import Section, Text

FOLDER = "presets"
DEFAULT = "default"  # the preset with the values that the others change
SHOWN = 60  # characters of a value


class Preset(Section):
    """A file of presets/.

    Attributes:
        about: what the preset is, in a line.
        takes: how long it runs, and where that was measured.
        gives: the score that it reaches.
        needs: network, disk and hardware.
        settings: sections of params.yaml with the settings to change.
    """

    about: Text
    takes: Text
    gives: Text
    needs: Text
    settings: Annotated[dict[str, Any], Field(min_length=1)]

    @property
    def changes(self) -> dict[str, Any]:
        """The settings, by their dotted names."""
        return flatten(self.settings)


@dataclass(frozen=True)
class Change:
    """A setting's value before and after."""

    name: str
    before: object
    after: object


def load_presets(root: Path) -> dict[str, Preset]:
    """Read the presets of a project, by name; the default is the first.

    Raises:
        ValueError: A file is no preset, or there is no default.
    """
    paths = sorted(
        Path(root, FOLDER).glob("*.yaml"), key=lambda path: (path.stem != DEFAULT, path.stem)
    )
    presets = {path.stem: _read(path) for path in paths}
    if DEFAULT not in presets:
        raise ValueError(f"{FOLDER}/{DEFAULT}.yaml: does not exist; `git checkout {FOLDER}`")
    return presets


def _read(path: Path) -> Preset:
    try:
        return Preset.model_validate(strict_yaml.load(path.read_text(encoding="utf-8")))
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{FOLDER}/{path.name}: {where}: {first['msg']}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{FOLDER}/{path.name}: {error}") from None


def apply(name: str) -> list[Change]:
    """Write a preset into params.yaml, which keeps its comments and its other settings.

    A setting that another preset changes gets its default value first, so that presets don't mix.

    Returns:
        The settings whose values changed.

    Raises:
        ValueError: There is no such preset, or the result is not valid; params.yaml is unchanged.
    """
    root = project_root()
    presets = load_presets(root)
    if name not in presets:
        close = difflib.get_close_matches(name, presets, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"preset {name!r}: must be one of {', '.join(presets)}{hint}")
    path = root / PARAMS
    load_params(path)  # reports a broken file in its own words
    with publish_file(path) as new:
        new.write_bytes(path.read_bytes())
        changed = write_settings(new, presets[DEFAULT].changes | presets[name].changes)
        _check(new, name)
    return changed


def write_settings(path: Path, settings: dict[str, Any]) -> list[Change]:
    """Write settings, by their dotted names, into a params.yaml; keeps the comments.

    Returns:
        The settings whose values changed.
    """
    yaml = _round_trip()
    params, changed = yaml.load(path.read_text(encoding="utf-8")), []
    for key, value in settings.items():
        section, _, setting = key.partition(".")
        before = params.get(section, {}).get(setting)
        if before != value:
            params.setdefault(section, {})[setting] = value
            changed.append(Change(key, before, value))
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    return changed


def _round_trip() -> YAML:
    """A reader and writer that keeps comments, quotes, line breaks and `null`."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    null = "tag:yaml.org,2002:null"
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar(null, "null")
    )
    return yaml


def _check(path: Path, name: str) -> None:
    """Raise ValueError if the settings are wrong; the message names the preset."""
    try:
        load_params(path, check_source)
    except ValueError as error:
        _, *lines = str(error).splitlines()
        raise ValueError("\n".join([f"{FOLDER}/{name}.yaml does not fit:", *lines])) from None


def print_presets() -> None:
    """Print what each preset is, takes, gives and needs."""
    for name, preset in load_presets(project_root()).items():
        print(f"{name}: {preset.about}")
        for label in ("takes", "gives", "needs"):
            print(f"  {label}  {getattr(preset, label)}")


def print_applied(name: str) -> None:
    """Apply a preset and print what changed."""
    changes = apply(name)
    if not changes:
        print(f"{PARAMS} has the preset {name} already.")
        return
    print(f"{PARAMS}: {len(changes)} setting(s) changed")
    width = max(len(change.name) for change in changes)
    for change in changes:
        print(f"  {change.name:<{width}}  {_short(change.before)} -> {_short(change.after)}")
    print(
        "`dvc repro` runs it, `dvc exp run` keeps it as an experiment, `tinyllm check` estimates."
    )


def _short(value: object) -> str:
    if isinstance(value, list):
        value = list(value)
        if len(str(value)) > SHOWN:
            return f"{len(value)} values"
    return show(value)
